"""Several production routers in front of simulated engines, in virtual time: what they share, lose and forget."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from benchmarks.harness.command import CONVERSATION_TRACE, TraceOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.rows import rows_report
from benchmarks.virtual.several_routers import agreement, faults, restart
from benchmarks.virtual.several_routers.setup import CAVEATS, Setup


class RoutersExperiment(StrEnum):
    """What can be run."""

    AGREEMENT = "agreement"
    FAULTS = "faults"
    RESTART = "restart"


EXPERIMENT_TO_RUN: dict[RoutersExperiment, Callable[[Setup], Iterable[Any]]] = {
    RoutersExperiment.AGREEMENT: agreement.run,
    RoutersExperiment.FAULTS: faults.run,
    RoutersExperiment.RESTART: restart.run,
}

app = make_app()


@app.command()
@measurement
def main(
    experiments: Annotated[list[RoutersExperiment] | None, typer.Argument(help="Default: all of them.")] = None,
    *,
    trace: TraceOption = CONVERSATION_TRACE,
    load: Annotated[list[float], typer.Option(min=0.01, help="Load of the replicas; may be repeated.")] = [0.8],  # noqa: B006  typer copies
    replicas: Annotated[int, typer.Option(min=1, help="Number of replicas.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case, with seeds from 1 on.")] = 1,
    spread_evenly: Annotated[bool, typer.Option(help="How requests of one stamp of the trace are spread.")] = True,
) -> Report:
    """Replay a trace in virtual time through several production routers in front of simulated engines."""
    titled_runs = []
    for experiment in experiments or list(RoutersExperiment):
        for share in load:
            setup = Setup(trace, share, replicas, range(1, seeds + 1), is_spread_evenly=spread_evenly)
            titled_runs.append((f"{experiment}: {setup}", partial(EXPERIMENT_TO_RUN[experiment], setup)))
    return rows_report(titled_runs, caveats=CAVEATS)

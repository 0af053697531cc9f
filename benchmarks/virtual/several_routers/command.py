"""`python -m benchmarks several_routers`. Thin: parse, run, print."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.harness import rows as report
from benchmarks.virtual.several_routers import agreement, faults, restart
from benchmarks.virtual.several_routers.setup import Setup

DEFAULT_TRACE = Path(__file__).parents[3] / "../shared/data/traces/mooncake_conversation_first60.jsonl.zst"


class Experiment(StrEnum):
    """What can be run."""

    AGREEMENT = "agreement"
    FAULTS = "faults"
    RESTART = "restart"


EXPERIMENT_TO_RUN: dict[Experiment, Callable[[Setup], Iterable[Any]]] = {
    Experiment.AGREEMENT: agreement.run,
    Experiment.FAULTS: faults.run,
    Experiment.RESTART: restart.run,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    experiments: Annotated[list[Experiment] | None, typer.Argument(help="Default: all of them.")] = None,
    *,
    trace: Annotated[Path, typer.Option(help="JSON lines in Mooncake's format, plain or .zst.")] = DEFAULT_TRACE,
    load: Annotated[list[float], typer.Option(min=0.01, help="May be repeated.")] = [0.8],  # noqa: B006  typer copies
    replicas: Annotated[int, typer.Option(min=1)] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case, with seeds from 1 on.")] = 1,
    spread_evenly: Annotated[bool, typer.Option(help="How requests of one stamp of the trace are spread.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the tables there too.")] = None,
) -> None:
    """Replay a trace in virtual time through several production routers in front of simulated engines."""
    titled_runs = []
    for experiment in experiments or list(Experiment):
        for each_load in load:
            setup = Setup(trace, each_load, replicas, range(1, seeds + 1), is_spread_evenly=spread_evenly)
            titled_runs.append((f"{experiment}: {setup}", partial(EXPERIMENT_TO_RUN[experiment], setup)))
    report.print_tables(titled_runs, width=200, json_file=json_file)

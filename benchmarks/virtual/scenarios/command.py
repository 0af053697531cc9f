"""The production router and its rivals in situations that a router has to withstand, in virtual time."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from benchmarks.harness.command import CONVERSATION_TRACE, TraceOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.rows import rows_report
from benchmarks.virtual.scenarios import giants, hot_prefix, membership, ring_moves, routers, workloads
from benchmarks.virtual.several_routers.setup import CAVEATS, Setup
from serve_app.settings.schema import RouterSettings


class ScenarioName(StrEnum):
    """What can be run."""

    HOT_PREFIX = "hot_prefix"
    GIANTS = "giants"
    RING_MOVES = "ring_moves"
    MEMBERSHIP = "membership"
    ROUTERS = "routers"
    LOADS = "loads"
    AGENTS = "agents"
    UNSHARED = "unshared"


def _ring_moves(setup: Setup) -> Iterator[ring_moves.RingMovesRow]:
    return ring_moves.run(setup.num_replicas, virtual_nodes=RouterSettings().virtual_nodes)


EXPERIMENT_TO_RUN: dict[ScenarioName, Callable[[Setup], Iterator[Any]]] = {
    ScenarioName.HOT_PREFIX: hot_prefix.run,
    ScenarioName.GIANTS: giants.run,
    ScenarioName.RING_MOVES: _ring_moves,
    ScenarioName.MEMBERSHIP: membership.run,
    ScenarioName.ROUTERS: routers.run,
    ScenarioName.LOADS: workloads.run_loads,
    ScenarioName.AGENTS: workloads.run_agents,
    ScenarioName.UNSHARED: workloads.run_unshared,
}
MEMBERSHIP_REPLICAS, OTHER_REPLICAS = 16, 8

app = make_app()


@app.command()
@measurement
def main(
    experiments: Annotated[list[ScenarioName] | None, typer.Argument(help="Default: all of them.")] = None,
    *,
    trace: TraceOption = CONVERSATION_TRACE,
    load: Annotated[float, typer.Option(min=0.01, help="Where the experiment does not try several.")] = 0.8,
    replicas: Annotated[int | None, typer.Option(min=2, help="Default: 8, or 16 where they come and go.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case, with seeds from 1 on.")] = 2,
) -> Report:
    """Put the production router and its rivals into situations, in virtual time, in front of simulated engines."""
    titled_runs = []
    for experiment in experiments or list(ScenarioName):
        is_membership = experiment in (ScenarioName.RING_MOVES, ScenarioName.MEMBERSHIP)
        num_replicas = replicas or (MEMBERSHIP_REPLICAS if is_membership else OTHER_REPLICAS)
        setup = Setup(trace, load, num_replicas, range(1, seeds + 1), is_spread_evenly=False)
        titled_runs.append((f"{experiment}: {setup}", partial(EXPERIMENT_TO_RUN[experiment], setup)))
    return rows_report(titled_runs, caveats=CAVEATS)

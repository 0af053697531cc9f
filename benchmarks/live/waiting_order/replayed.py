"""The same comparison in virtual time: a trace through the production router and simulated engines."""

from dataclasses import dataclass
from functools import partial
from itertools import product

from benchmarks.live.waiting_order.figures import TimedAnswer, TtftFigures, figures, mean_of
from loadtests.replay.engine import EngineOptions
from loadtests.replay.parallel import run_all
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.replay.workload import ReplayWorkload, make_requests
from serve_app.settings.schema import WaitingOrderName


@dataclass(frozen=True, slots=True)
class Fleet:
    """What serves."""

    num_replicas: int
    kv_tokens: int
    policy: str


Case = tuple[float, WaitingOrderName, int]
"""Load, order and seed."""


def replayed(
    workload: ReplayWorkload,
    fleet: Fleet,
    *,
    loads: tuple[float, ...],
    orders: tuple[WaitingOrderName, ...],
    num_seeds: int,
    num_jobs: int,
) -> list[tuple[str, str, TtftFigures]]:
    """The mean over the seeds, for each load and order.

    Raises:
        TraceError: the trace cannot be used.

    """
    cases: list[Case] = list(product(loads, orders, range(1, num_seeds + 1)))
    runs = run_all(partial(_run, workload, fleet), cases, num_jobs=num_jobs, on_done=lambda: None)
    return [
        (f"{load:g}", order, mean_of([run for run, case in zip(runs, cases, strict=True) if case[:2] == (load, order)]))
        for load, order in product(loads, orders)
    ]


def _run(workload: ReplayWorkload, fleet: Fleet, case: Case) -> TtftFigures:
    load, order, seed = case
    engine = EngineOptions(kv_capacity_tokens=fleet.kv_tokens, waiting_order=order)
    asked = make_requests(
        workload, prompt_tokens_per_s=load * fleet.num_replicas * engine.prefill_tokens_per_s, seed=seed
    )
    scenario = Scenario(
        asked.requests,
        num_replicas=fleet.num_replicas,
        num_routers=1,
        seed=seed,
        engine=engine,
        is_closed_loop=asked.is_closed_loop,
        is_asking=False,
        sample_s=None,
        block_size=asked.block_size,
        policy=fleet.policy,
    )
    return figures([TimedAnswer(each.prompt_tokens, each.ttft_s) for each in Simulation(scenario).run().records])

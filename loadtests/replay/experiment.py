"""Policies compared on one workload: every case is a policy at a load for a seed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from loadtests.replay.bounds import infinite_hit_rate, pooled_hit_rate
from loadtests.replay.engine import EngineOptions
from loadtests.replay.fleet import MembershipChange
from loadtests.replay.parallel import run_all
from loadtests.replay.results import Summary, WorkWindow, in_windows, summarize, ttft_quantiles_s
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.replay.workload import AskedRequests, ReplayWorkload, make_requests
from router import Funnel

NUM_WINDOWS = 40
"""How many windows, for the work over time, the trace's span is cut into; a run may have more."""
NUM_CACHE_SAMPLES = 20
"""How often, in the trace's span, copies of blocks are counted."""


@dataclass(frozen=True, slots=True)
class ReplayExperiment:
    """All that its results depend on."""

    workload: ReplayWorkload
    policies: tuple[str, ...]
    """The first is the one that others are compared with."""
    loads: tuple[float, ...]
    """All prompt tokens a second over what all replicas can prefill. The first is looked at in detail."""
    seeds: tuple[int, ...]
    num_replicas: int
    num_routers: int
    delay_s: float
    """Seconds that messages travel."""
    ttft_limit_s: float
    engine: EngineOptions = field(default_factory=EngineOptions)
    changes: tuple[MembershipChange, ...] = ()
    is_telling: bool = False
    """Whether engines send KV events."""
    kv_delay_s: float | None = None
    """Seconds that KV events travel; None for as long as other messages."""
    told_kv_tokens: int | None = None
    """The KV capacity that routers are told; None for the true one."""
    told_host_tokens: int | None = None
    """The same for the second tier."""


@dataclass(frozen=True, slots=True)
class ReplayCase:
    """One run."""

    policy: str
    load: float
    seed: int


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """What one run gave."""

    case: ReplayCase
    summary: Summary
    ttft_quantiles_s: tuple[float, ...]
    """The least, the 99 percentiles, the most."""
    windows: tuple[WorkWindow, ...]
    funnel: Funnel


@dataclass(frozen=True, slots=True)
class Bounds:
    """Hit rates of one load and seed, whatever the policy."""

    load: float
    seed: int
    num_requests: int
    is_closed_loop: bool
    pooled_hit_rate: float
    """The hit rate of one LRU as large as all caches together."""
    infinite_hit_rate: float


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """An experiment and all its results."""

    experiment: ReplayExperiment
    bounds: tuple[Bounds, ...]
    outcomes: tuple[CaseOutcome, ...]

    def of(self, policy: str, load: float) -> list[CaseOutcome]:
        """The outcomes of a policy at a load, in order of the seeds."""
        return [each for each in self.outcomes if (each.case.policy, each.case.load) == (policy, load)]


def num_runs(experiment: ReplayExperiment) -> int:
    """How often `on_done` will be called."""
    return (len(experiment.policies) + 1) * len(experiment.loads) * len(experiment.seeds)


def compare(experiment: ReplayExperiment, *, num_jobs: int, on_done: Callable[[], None]) -> PolicyComparison:
    """Run every case, over several processes.

    Raises:
        TraceError: the trace cannot be used, or not so.
        ValueError: replicas cannot change so.

    """
    grid = list(product(experiment.loads, experiment.seeds))
    cases = [ReplayCase(policy, load, seed) for (load, seed), policy in product(grid, experiment.policies)]
    bounds = run_all(partial(_bound, experiment), grid, num_jobs=num_jobs, on_done=on_done)
    outcomes = run_all(partial(run_case, experiment), cases, num_jobs=num_jobs, on_done=on_done)
    return PolicyComparison(experiment, tuple(bounds), tuple(outcomes))


def _bound(experiment: ReplayExperiment, load_and_seed: tuple[float, int]) -> Bounds:
    load, seed = load_and_seed
    asked = _asked(experiment, load, seed)
    return Bounds(
        load,
        seed,
        len(asked.requests),
        asked.is_closed_loop,
        pooled_hit_rate(
            asked.requests,
            capacity_tokens=experiment.num_replicas * experiment.engine.kv_capacity_tokens,
            block_size=asked.block_size,
        ),
        infinite_hit_rate(asked.requests, block_size=asked.block_size),
    )


def run_case(experiment: ReplayExperiment, case: ReplayCase) -> CaseOutcome:
    """One run.

    Raises:
        TraceError: the trace cannot be used, or not so.
        ValueError: replicas cannot change so.

    """
    asked = _asked(experiment, case.load, case.seed)
    window_s = max(1.0, asked.span_s / NUM_WINDOWS)
    scenario = Scenario(
        asked.requests,
        num_replicas=experiment.num_replicas,
        num_routers=experiment.num_routers,
        seed=case.seed,
        engine=experiment.engine,
        delay_s=experiment.delay_s,
        kv_delay_s=experiment.kv_delay_s,
        changes=experiment.changes,
        is_telling=experiment.is_telling,
        told_kv_tokens=experiment.told_kv_tokens,
        told_host_tokens=experiment.told_host_tokens,
        is_closed_loop=asked.is_closed_loop,
        is_asking=False,
        sample_s=None,
        cache_sample_s=max(1.0, asked.span_s / NUM_CACHE_SAMPLES),
        block_size=asked.block_size,
        policy=case.policy,
    )
    run = Simulation(scenario, clock=time.perf_counter).run()
    num_replicas = experiment.num_replicas
    return CaseOutcome(
        case,
        summarize(run, num_replicas=num_replicas, ttft_limit_s=experiment.ttft_limit_s, window_s=window_s),
        ttft_quantiles_s(run.records),
        in_windows(run.records, num_replicas=num_replicas, window_s=window_s),
        run.funnel,
    )


def _asked(experiment: ReplayExperiment, load: float, seed: int) -> AskedRequests:
    capacity_tokens_per_s = experiment.num_replicas * experiment.engine.prefill_tokens_per_s
    return make_requests(experiment.workload, prompt_tokens_per_s=load * capacity_tokens_per_s, seed=seed)

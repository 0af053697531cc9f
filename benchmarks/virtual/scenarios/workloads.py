"""Our policy against every shipped rule: from little load to too much, on agents, and where nothing is shared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.virtual.scenarios.unshared import write_unshared
from benchmarks.virtual.several_routers.setup import Setup
from loadtests.replay.engine import EngineOptions
from loadtests.replay.experiment import CaseOutcome, ReplayCase, ReplayExperiment, run_case
from loadtests.replay.parallel import run_all
from loadtests.replay.results import TTFT_LIMIT_S
from loadtests.replay.workload import ReplayWorkload
from loadtests.report.intervals import Estimate, mean, ratio

OURS = "prefix_affinity"
POLICIES = (OURS, "llmd_scraped", "sglang_cache_aware", "ray_prefix", "chwbl", "dynamo_rule", "least_loaded")
LOADS = (0.4, 0.6, 0.8, 1.0, 1.1, 1.2)
SESSION_LOADS = (2.0, 6.0)
"""Agents' prompts hit to nine tenths, so that replicas are busy only at several times their speed without hits."""
AGENTS = (("tau_airline", 2, 8, 60_000), ("lmcache_miniswe", 4, 4, 200_000))
"""Trace, copies of each session, replicas, KV tokens of each: caches that hold a part of what is being talked about."""
AHEAD_RATIO = 1.02
"""Another is ahead if it is better by so much."""
NUM_JOBS = 2


@dataclass(frozen=True, slots=True)
class Situation:
    """Who asks whom."""

    name: str
    workload: ReplayWorkload
    loads: tuple[float, ...]
    num_replicas: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class WorkloadRow:
    """What one policy reaches at one load; ratios are of our policy's sums to its own."""

    workload: str
    load: float
    policy: str
    hit_rate: float
    mean_ttft_s: float
    served_rps: float
    ttft_ratio: float
    ttft_margin: float
    """Half of the 95 % interval; not a number for one seed."""
    served_ratio: float
    ahead: str
    """Where it is ahead of ours by more than 2 %."""


def run_loads(setup: Setup) -> Iterator[WorkloadRow]:
    """The trace's conversations in both loops, from little load to too much."""
    for name, is_closed_loop in (("open loop", False), ("closed loop", True)):
        workload = _workload(setup.trace, is_closed_loop=is_closed_loop)
        yield from compare(
            Situation(name, workload, LOADS, setup.num_replicas, kv_tokens=500_000), seeds=tuple(setup.seeds)
        )


def run_unshared(setup: Setup) -> Iterator[WorkloadRow]:
    """The trace's arrivals and lengths, and nothing that a cache could help with."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "unshared.jsonl"
        write_unshared(setup.trace, path)
        situation = Situation("nothing shared", _workload(path), (setup.load,), setup.num_replicas, kv_tokens=500_000)
        yield from compare(situation, seeds=tuple(setup.seeds))


def run_agents(setup: Setup) -> Iterator[WorkloadRow]:
    """Agents' sessions from the files in the trace's folder, closed-loop."""
    for name, num_copies, num_replicas, kv_tokens in AGENTS:
        path = setup.trace.with_name(f"derived_blocks_{name}.jsonl.zst")
        workload = _workload(path, num_copies=num_copies)
        yield from compare(Situation(name, workload, SESSION_LOADS, num_replicas, kv_tokens), seeds=tuple(setup.seeds))


def compare(situation: Situation, *, seeds: tuple[int, ...], num_jobs: int = NUM_JOBS) -> Iterator[WorkloadRow]:
    """A row for each load and policy."""
    experiment = ReplayExperiment(
        situation.workload,
        policies=POLICIES,
        loads=situation.loads,
        seeds=seeds,
        num_replicas=situation.num_replicas,
        num_routers=1,
        delay_s=0.005,
        ttft_limit_s=TTFT_LIMIT_S,
        engine=EngineOptions(kv_capacity_tokens=situation.kv_tokens),
    )
    grid = list(product(situation.loads, POLICIES))
    cases = [ReplayCase(policy, load, seed) for (load, policy), seed in product(grid, seeds)]
    outcomes = run_all(partial(run_case, experiment), cases, num_jobs=num_jobs, on_done=lambda: None)
    for load, policy in grid:
        yield _row(situation.name, load, policy, _of(outcomes, OURS, load), _of(outcomes, policy, load))


def _workload(trace: Path, *, is_closed_loop: bool = False, num_copies: int = 1) -> ReplayWorkload:
    return ReplayWorkload(
        trace, is_closed_loop=is_closed_loop, is_spread_evenly=False, think_s=1.0, num_copies=num_copies, tenants=()
    )


def _of(outcomes: Sequence[CaseOutcome], policy: str, load: float) -> list[CaseOutcome]:
    return [each for each in outcomes if (each.case.policy, each.case.load) == (policy, load)]


def _row(
    workload: str, load: float, policy: str, ours: Sequence[CaseOutcome], theirs: Sequence[CaseOutcome]
) -> WorkloadRow:
    ttft, served = (_ratio(ours, theirs, name) for name in ("mean_ttft_s", "served_rps"))
    ahead = ["TTFT"] * (ttft.value > AHEAD_RATIO) + ["served"] * (served.value < 1 / AHEAD_RATIO)
    return WorkloadRow(
        workload=workload,
        load=load,
        policy=policy,
        hit_rate=_mean(theirs, "hit_rate"),
        mean_ttft_s=_mean(theirs, "mean_ttft_s"),
        served_rps=_mean(theirs, "served_rps"),
        ttft_ratio=ttft.value,
        ttft_margin=nan if ttft.margin is None else ttft.margin,
        served_ratio=served.value,
        ahead=", ".join(ahead),
    )


def _ratio(ours: Sequence[CaseOutcome], theirs: Sequence[CaseOutcome], name: str) -> Estimate:
    return ratio([getattr(each.summary, name) for each in ours], [getattr(each.summary, name) for each in theirs])


def _mean(outcomes: Sequence[CaseOutcome], name: str) -> float:
    return mean([getattr(each.summary, name) for each in outcomes]).value

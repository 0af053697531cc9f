"""Policies in turn on the same sessions, each beginning with empty caches and a router that knows nothing."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from random import Random
from statistics import fmean
from typing import Any, Protocol

from rich.table import Table

from benchmarks.gpu.driver import Asked, TurnDriver, TurnRecord
from benchmarks.gpu.engine import KvCache
from benchmarks.gpu.sessions import Session, TurnTraffic, make_sessions
from benchmarks.harness.errors import MeasurementError
from loadtests.report import intervals
from loadtests.report.intervals import Estimate, estimate_text
from loadtests.report.statistics import percentile
from loadtests.report.tables import make_table
from router import Replica, ReplicaId, Router
from router.policies import make_policy
from serve_app.settings.schema import EngineModelSettings, ReplicaSettings, RouterSettings

METRICS = {
    "hit_rate": ("hit rate", ".4f"),
    "believed_rate": ("estimated", ".4f"),
    "mean_ttft_s": ("TTFT mean s", ".3f"),
    "p50_ttft_s": ("p50", ".3f"),
    "p95_ttft_s": ("p95", ".3f"),
    "goodput_rps": ("good/s", ".3f"),
    "imbalance": ("imbalance", ".3f"),
}
"""Metrics, each with its title and format."""
WARM_UP_SHARE = 0.25
"""Share of a run's sessions that warm up: engines compile for a length or a number of prompts when it first comes."""
COMPARED = ("hit_rate", "mean_ttft_s", "p50_ttft_s", "p95_ttft_s", "goodput_rps")


class Resettable(Asked, Protocol):
    """What is needed of an engine."""

    async def reset_cache(self) -> None:
        """Forget every prefix."""


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """Everything that is compared."""

    policies: tuple[str, ...]
    """The first is the one that others are compared with."""
    traffic: TurnTraffic
    repetitions: int
    seed: int
    ttft_limit_s: float
    """A request is good if its first token comes within it."""


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """One policy on the sessions of one repetition."""

    policy: str
    repetition: int
    records: Sequence[TurnRecord]
    max_late_s: float
    """How late a session began at worst: how well this process kept up."""

    @property
    def faults(self) -> list[str]:
        """The faults of requests that failed."""
        return [record.fault for record in self.records if record.fault is not None]


async def compare(
    plan: PolicyPlan, engines: Sequence[Resettable], caches: Sequence[KvCache], *, clock: Callable[[], float]
) -> AsyncIterator[PolicyRun]:
    """Every policy once a repetition, each repetition beginning with another one. A short run before does not count.

    Args:
        plan: what.
        engines: where.
        caches: of each; on a GPU that they share, no two need be alike.
        clock: seconds.

    Raises:
        MeasurementError: an engine does not reset its cache, or none answers.

    """
    warm_up = make_sessions(plan.traffic, seed=f"{plan.seed} warm-up")
    await _serve(
        plan, plan.policies[0], warm_up[: ceil(WARM_UP_SHARE * len(warm_up))], "warm-up", engines, caches, clock
    )
    for repetition in range(plan.repetitions):
        sessions = make_sessions(plan.traffic, seed=f"{plan.seed} {repetition}")
        for policy in rotated(plan.policies, repetition):
            driver = await _serve(plan, policy, sessions, str(repetition), engines, caches, clock)
            run = PolicyRun(policy, repetition, driver.records, driver.max_late_s)
            if len(run.faults) == len(run.records):
                raise MeasurementError(f"no request was answered: {run.faults[0]}")
            yield run


async def _serve(
    plan: PolicyPlan,
    policy: str,
    sessions: Sequence[Session],
    name: str,
    engines: Sequence[Resettable],
    caches: Sequence[KvCache],
    clock: Callable[[], float],
) -> TurnDriver:
    """The sessions through a router and caches that know nothing of them."""
    for engine in engines:
        await engine.reset_cache()
    replicas = [Replica(ReplicaId(f"engine-{rank}"), rank, cache.num_tokens) for rank, cache in enumerate(caches)]
    driver = TurnDriver(
        make_router(policy, replicas, block_size=caches[0].block_size, seed=f"{plan.seed} {name}"),
        {replica.replica_id: engine for replica, engine in zip(replicas, engines, strict=True)},
        answer_tokens=plan.traffic.answer_tokens,
        heartbeat_s=ReplicaSettings().heartbeat_s,
        clock=clock,
    )
    await driver.run(sessions)
    return driver


def rotated(policies: Sequence[str], repetition: int) -> list[str]:
    """So that none is always the first, when engines are cold, or the last."""
    start = repetition % len(policies)
    return [*policies[start:], *policies[:start]]


def make_router(policy: str, replicas: Sequence[Replica], *, block_size: int, seed: str) -> Router:
    """A router as production builds it, with the default settings.

    Raises:
        UnknownPolicyError: there is no such policy.

    """
    router = RouterSettings().make_router(
        policy=make_policy(policy, Random(seed)), block_size=block_size, engine_model=EngineModelSettings()
    )
    router.set_replicas(replicas)
    return router


def summarize(run: PolicyRun, *, num_engines: int, ttft_limit_s: float) -> dict[str, float]:
    """The metrics of a run; rates are ratios of sums over the requests that were answered."""
    answered = [record for record in run.records if record.ttft_s is not None]
    ttfts_s = [record.ttft_s for record in answered if record.ttft_s is not None]
    prompt_tokens = sum(record.prompt_tokens for record in answered)
    return {
        "hit_rate": sum(record.cached_tokens for record in answered) / prompt_tokens,
        "believed_rate": sum(record.believed_cached_tokens for record in answered) / prompt_tokens,
        "mean_ttft_s": fmean(ttfts_s),
        "p50_ttft_s": percentile(ttfts_s, 50),
        "p95_ttft_s": percentile(ttfts_s, 95),
        "goodput_rps": sum(ttft_s <= ttft_limit_s for ttft_s in ttfts_s) / max(each.ended_s for each in answered),
        "imbalance": _imbalance(answered, num_engines),
    }


def _imbalance(records: Sequence[TurnRecord], num_engines: int) -> float:
    """The most computed prompt tokens of an engine over the mean; 1 is even."""
    id_to_computed: dict[ReplicaId, int] = {}
    for record in records:
        computed = record.prompt_tokens - record.cached_tokens
        id_to_computed[record.replica_id] = id_to_computed.get(record.replica_id, 0) + computed
    return max(id_to_computed.values()) * num_engines / sum(id_to_computed.values())


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """A plan, and all its runs."""

    plan: PolicyPlan
    caches: Sequence[KvCache]
    """The KV cache of each engine."""
    runs: Sequence[PolicyRun]

    def values(self, policy: str, metric: str) -> list[float]:
        """A metric of a policy's runs, in order of the repetitions."""
        return [summary[metric] for run, summary in self._summaries() if run.policy == policy]

    def means(self, policy: str) -> Mapping[str, Estimate]:
        """The means of every metric."""
        return {metric: intervals.mean(self.values(policy, metric)) for metric in METRICS}

    def ratios(self, policy: str) -> Mapping[str, Estimate]:
        """The ratios to the first policy, paired by repetition."""
        first = self.plan.policies[0]
        return {metric: intervals.ratio(self.values(policy, metric), self.values(first, metric)) for metric in COMPARED}

    def faults(self) -> list[str]:
        """What failed, once for each kind."""
        faults = [fault for run in self.runs for fault in run.faults]
        return [f"{faults.count(fault)} requests failed: {fault}" for fault in dict.fromkeys(faults)]

    def as_json(self) -> dict[str, Any]:
        """Every request; times in seconds."""
        return {
            "plan": asdict(self.plan),
            "kv_caches": [asdict(cache) for cache in self.caches],
            "runs": [{**asdict(run), "metrics": summary} for run, summary in self._summaries()],
        }

    def _summaries(self) -> list[tuple[PolicyRun, dict[str, float]]]:
        limit_s = self.plan.ttft_limit_s
        runs = sorted(self.runs, key=lambda run: run.repetition)
        return [(run, summarize(run, num_engines=len(self.caches), ttft_limit_s=limit_s)) for run in runs]


def result_tables(result: PolicyOutcome) -> list[Table]:
    """The numbers by policy and, of several policies, their ratios to the first one's."""
    first, *others = result.plan.policies
    title = f"Good: first token within {result.plan.ttft_limit_s:g} s. {result.plan.repetitions} repetitions"
    tables = [make_table(title, left=("policy",), right=("requests", *(title for title, _ in METRICS.values())))]
    for policy in result.plan.policies:
        num_requests = sum(len(run.records) for run in result.runs if run.policy == policy)
        tables[0].add_row(policy, f"{num_requests:,}", *_texts(result.means(policy)))
    if others:
        tables.append(make_table(f"Times {first}", left=("policy",), right=[METRICS[each][0] for each in COMPARED]))
        for policy in others:
            tables[1].add_row(policy, *_texts(result.ratios(policy)))
    return tables


def _texts(metric_to_estimate: Mapping[str, Estimate]) -> list[str]:
    return [estimate_text(estimate, METRICS[metric][1]) for metric, estimate in metric_to_estimate.items()]

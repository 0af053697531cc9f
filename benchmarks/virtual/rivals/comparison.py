"""One row for each policy: what it reaches on the same requests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.harness.rows import mean_row
from benchmarks.virtual.several_routers.setup import Setup, simulate
from loadtests.replay.engine import EngineOptions
from loadtests.replay.results import summarize
from loadtests.replay.simulation import Scenario


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy with one router."""

    policy: str
    hit_rate: float
    mean_ttft_s: float
    p50_ttft_s: float
    p90_ttft_s: float
    p99_ttft_s: float
    prompt_imbalance: float
    computed_imbalance: float


def run(setup: Setup, policies: Sequence[str], *, kv_tokens: int) -> Iterator[PolicyRow]:
    """A row for each policy, the mean over the seeds."""
    scenarios = tuple(setup.scenarios())
    for policy in policies:
        yield mean_row([_row(scenario, policy, kv_tokens) for scenario in scenarios])


def _row(scenario: Scenario, policy: str, kv_tokens: int) -> PolicyRow:
    result = simulate(
        scenario,
        policy=policy,
        num_routers=1,
        engine=EngineOptions(kv_capacity_tokens=kv_tokens),
        sample_s=scenario.requests[-1].arrival_s,  # the books are not of interest here
    )
    summary = summarize(result, num_replicas=scenario.num_replicas)
    return PolicyRow(
        policy=policy,
        hit_rate=summary.hit_rate,
        mean_ttft_s=summary.mean_ttft_s,
        p50_ttft_s=summary.p50_ttft_s,
        p90_ttft_s=summary.p90_ttft_s,
        p99_ttft_s=summary.p99_ttft_s,
        prompt_imbalance=summary.prompt_imbalance,
        computed_imbalance=summary.computed_imbalance,
    )

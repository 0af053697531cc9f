"""Policies in turn on the same sessions, and the numbers about it."""

import time
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.gpu.comparison import PolicyOutcome, PolicyPlan, PolicyRun, compare, result_tables, rotated, summarize
from benchmarks.gpu.driver import TurnRecord
from benchmarks.gpu.engine import KvCache
from benchmarks.gpu.sessions import TurnTraffic
from benchmarks.harness.errors import MeasurementError
from router import ReplicaId
from tests.benchmarks.gpu.fake_engine import BLOCK_SIZE, FakeEngine

TRAFFIC = TurnTraffic(
    num_sessions=8,
    requests_per_s=1e6,
    turns=2,
    num_prefixes=2,
    prefix_tokens=400,
    message_tokens=10,
    answer_tokens=2,
    think_s=0,
)
PLAN = PolicyPlan(("round_robin", "prefix_affinity"), TRAFFIC, repetitions=2, seed=1, ttft_limit_s=0.2)
CACHES = [KvCache(40_000, BLOCK_SIZE)] * 2


def record(
    engine: int, ttft_s: float | None, *, ended_s: float, prompt: int = 100, cached: int = 0, believed: int = 0
) -> TurnRecord:
    """One request."""
    fault = "it failed" if ttft_s is None else None
    return TurnRecord(ReplicaId(f"engine-{engine}"), 0.0, ended_s, ttft_s, prompt, cached, believed, fault)


RECORDS = [
    record(0, 0.1, ended_s=1, prompt=100, cached=80, believed=90),
    record(0, 0.3, ended_s=4, prompt=300),
    record(1, 0.2, ended_s=2, prompt=100, cached=20),
    record(1, None, ended_s=9, prompt=1000),
]


def test_a_run_in_numbers() -> None:
    """Ratios of sums over what was answered; good ones over the time until the last answer."""
    metrics = summarize(PolicyRun("p", 0, RECORDS, 0.0), num_engines=2, ttft_limit_s=0.2)
    assert metrics == pytest.approx(
        {
            "hit_rate": 100 / 500,
            "believed_rate": 90 / 500,
            "mean_ttft_s": 0.2,
            "p50_ttft_s": 0.2,
            "p95_ttft_s": 0.29,
            "goodput_rps": 2 / 4,
            "imbalance": 320 / 200,
        }
    )


def test_every_policy_is_the_first_once() -> None:
    """In turn."""
    assert [rotated(("a", "b", "c"), repetition) for repetition in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


async def test_every_policy_serves_the_same_sessions_from_empty_caches() -> None:
    """After a run that does not count."""
    engines = [FakeEngine(), FakeEngine()]
    runs = [run async for run in compare(PLAN, engines, CACHES, clock=time.perf_counter)]
    assert [(run.policy, run.repetition) for run in runs] == [
        ("round_robin", 0),
        ("prefix_affinity", 0),
        ("prefix_affinity", 1),
        ("round_robin", 1),
    ]
    assert [engine.num_resets for engine in engines] == [5, 5]
    asked = [sorted(record.prompt_tokens for record in run.records) for run in runs]
    assert asked[0] == asked[1] != asked[2] == asked[3]
    first_hits = [run.records[0].cached_tokens for run in runs]
    assert first_hits == [0, 0, 0, 0]


async def test_a_conversation_is_worth_more_where_it_stays() -> None:
    """Of one user, so that nothing is computed in two places at the same time."""
    plan = replace(PLAN, traffic=replace(TRAFFIC, num_sessions=1, turns=6))
    runs = [run async for run in compare(plan, [FakeEngine(), FakeEngine()], CACHES, clock=time.perf_counter)]
    result = PolicyOutcome(plan, CACHES, runs)
    assert all(
        ours >= theirs
        for ours, theirs in zip(
            result.values("prefix_affinity", "hit_rate"), result.values("round_robin", "hit_rate"), strict=True
        )
    )
    assert result.means("prefix_affinity")["believed_rate"].value == pytest.approx(
        result.means("prefix_affinity")["hit_rate"].value
    )


async def test_engines_that_never_answer_end_the_comparison() -> None:
    """At once, instead of after hours."""
    engines = [FakeEngine(failures=10_000) for _ in range(2)]
    with pytest.raises(MeasurementError, match=r"no request was answered: .*too bad"):
        async for _ in compare(PLAN, engines, CACHES, clock=time.perf_counter):
            pass


def result_of(*ttfts_s: tuple[float, float]) -> PolicyOutcome:
    """One request a run: the first policy's TTFT and the second's, of each repetition."""
    runs = [
        PolicyRun(policy, repetition, [record(0, ttft_s, ended_s=1.0, cached=50)], 0.0)
        for repetition, pair in enumerate(ttfts_s)
        for policy, ttft_s in zip(PLAN.policies, pair, strict=True)
    ]
    return PolicyOutcome(PLAN, CACHES, runs)


def test_ratios_are_paired_by_repetition() -> None:
    """What a repetition does to both does not widen the interval."""
    result = result_of((0.2, 0.1), (0.4, 0.2), (0.8, 0.4))
    estimate = result.ratios("prefix_affinity")["mean_ttft_s"]
    assert (estimate.value, estimate.margin) == (pytest.approx(0.5), pytest.approx(0))
    assert result.means("round_robin")["mean_ttft_s"].margin > 0.5


def test_the_tables_have_a_row_for_each_policy() -> None:
    """The first one is not compared with itself."""
    written = StringIO()
    Console(width=160, file=written).print(*result_tables(result_of((0.2, 0.1), (0.2, 0.1))))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in written.getvalue().splitlines()]
    rows = [line for line in lines if line]
    assert [row[0] for row in rows] == ["round_robin", "prefix_affinity", "prefix_affinity"]
    assert rows[0][1:5] == ["2", "0.5000 ±0.0000", "0.0000 ±0.0000", "0.200 ±0.000"]
    assert rows[2][1:3] == ["1.0000 ±0.0000", "0.500 ±0.000"]


def test_one_policy_is_compared_with_nobody() -> None:
    """Its numbers are there all the same."""
    plan = replace(PLAN, policies=("round_robin",))
    assert len(result_tables(PolicyOutcome(plan, CACHES, [PolicyRun("round_robin", 0, RECORDS, 0.0)]))) == 1


def test_failures_are_counted() -> None:
    """And every request is in the document."""
    result = PolicyOutcome(PLAN, CACHES, [PolicyRun("round_robin", 0, RECORDS, 0.0)])
    assert result.faults() == ["1 requests failed: it failed"]
    document = result.as_json()
    assert document["kv_caches"] == [{"num_tokens": 40_000, "block_size": 4}] * 2
    assert len(document["runs"][0]["records"]) == 4
    assert document["runs"][0]["metrics"]["goodput_rps"] == 0.5

"""Workloads and comparisons on small traces."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.virtual.scenarios.unshared import write_unshared
from benchmarks.virtual.scenarios.workloads import AHEAD_RATIO, OURS, POLICIES, Situation, compare
from loadtests.replay.trace import read_trace
from loadtests.replay.workload import ReplayWorkload
from tests.loadtests.replay.traces import write_conversations


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Conversations of four turns, 48 requests."""
    return write_conversations(tmp_path / "trace.jsonl")


def test_nothing_is_shared_and_all_else_stays(trace: Path, tmp_path: Path) -> None:
    """Every block comes once; lengths, answers and arrivals are the trace's."""
    path = tmp_path / "unshared.jsonl"
    write_unshared(trace, path)
    requests, others = read_trace(trace).requests, read_trace(path).requests
    blocks = Counter(each for request in others for each in request.block_hashes)
    assert set(blocks.values()) == {1}
    assert [(each.arrival_s, each.num_prompt_tokens, each.num_output_tokens) for each in others] == [
        (each.arrival_s, each.num_prompt_tokens, each.num_output_tokens) for each in requests
    ]
    assert {each.predecessor for each in others} == {None}


def make_situation(trace: Path, *, is_closed_loop: bool) -> Situation:
    """Three small replicas at one load."""
    workload = ReplayWorkload(
        trace, is_closed_loop=is_closed_loop, is_spread_evenly=False, think_s=1.0, num_copies=1, tenants=()
    )
    return Situation("small", workload, (0.5,), num_replicas=3, kv_tokens=50_000)


def test_where_nothing_is_shared_nobody_hits(trace: Path, tmp_path: Path) -> None:
    """A row for each policy."""
    path = tmp_path / "unshared.jsonl"
    write_unshared(trace, path)
    rows = list(compare(make_situation(path, is_closed_loop=False), seeds=(1,), num_jobs=1))
    assert [(row.workload, row.load, row.policy) for row in rows] == [("small", 0.5, each) for each in POLICIES]
    assert {row.hit_rate for row in rows} == {0}


def test_our_policy_is_held_against_each(trace: Path) -> None:
    """And against itself, which it cannot lose to; whoever is ahead by more than 2 % is named so."""
    rows = list(compare(make_situation(trace, is_closed_loop=True), seeds=(1, 2), num_jobs=1))
    assert [row.policy for row in rows] == list(POLICIES)
    assert (rows[0].policy, rows[0].ttft_ratio, rows[0].served_ratio, rows[0].ahead) == (OURS, 1, 1, "")
    for row in rows:
        assert row.ttft_ratio == pytest.approx(rows[0].mean_ttft_s / row.mean_ttft_s, abs=1e-9)
        assert ("TTFT" in row.ahead) == (row.ttft_ratio > AHEAD_RATIO)
        assert ("served" in row.ahead) == (row.served_ratio < 1 / AHEAD_RATIO)

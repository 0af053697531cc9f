"""Workloads and comparisons on small traces."""

from collections import Counter
from pathlib import Path

import pytest

from loadtests.replay.trace import read_trace
from loadtests.scenarios.unshared import write_unshared
from loadtests.scenarios.workloads import OURS, POLICIES, Situation, compare, situations
from loadtests.several_routers.setup import Setup
from tests.loadtests.replay.traces import write_conversations


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Conversations of four turns, 48 requests."""
    return write_conversations(tmp_path / "trace.jsonl")


def make_setup(trace: Path) -> Setup:
    """Three replicas, one seed."""
    return Setup(trace, 0.5, 3, (1,), is_spread_evenly=False)


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


def test_every_situation_is_named_once(trace: Path, tmp_path: Path) -> None:
    """The sweeps have the setup's replicas; agents come from files beside the trace."""
    found = list(situations(make_setup(trace), tmp_path / "unshared.jsonl"))
    assert len({each.name for each in found}) == len(found) == 5
    assert [each.workload.is_closed_loop for each in found[:2]] == [False, True]
    assert found[-1].workload.trace == tmp_path / "derived_blocks_lmcache_miniswe.jsonl.zst"


def test_our_policy_is_held_against_each(trace: Path, tmp_path: Path) -> None:
    """And against itself, which it cannot lose to; whoever is ahead by more than 2 % is named so."""
    situation = next(iter(situations(make_setup(trace), tmp_path)))
    situation = Situation("small", situation.workload, (0.5,), num_replicas=3, kv_tokens=50_000)
    rows = list(compare(situation, seeds=(1, 2), num_jobs=1))
    assert [row.policy for row in rows] == list(POLICIES)
    assert (rows[0].policy, rows[0].ttft_ratio, rows[0].served_ratio, rows[0].ahead) == (OURS, 1, 1, "")
    for row in rows:
        assert row.ttft_ratio == pytest.approx(rows[0].mean_ttft_s / row.mean_ttft_s)
        assert ("TTFT" in row.ahead) == (row.ttft_ratio > 1.02)
        assert ("served" in row.ahead) == (row.served_ratio < 1 / 1.02)

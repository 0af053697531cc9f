"""From a trace file to the requests of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.replay.trace import TraceError
from loadtests.replay.workload import ReplayWorkload, make_requests
from tests.loadtests.replay.traces import write_conversations, write_sessions


def make_workload(trace: Path) -> ReplayWorkload:
    """One tenant, open loop."""
    return ReplayWorkload(trace, is_closed_loop=False, is_spread_evenly=False, think_s=1, num_copies=1, tenants=())


def test_a_mooncake_trace_keeps_its_loop_and_gets_the_pace(tmp_path: Path) -> None:
    """48 requests of 123,000 tokens at 1,000 a second; another seed spreads them otherwise."""
    workload = make_workload(write_conversations(tmp_path / "trace.jsonl"))
    asked, other = (make_requests(workload, prompt_tokens_per_s=1000, seed=seed) for seed in (1, 2))
    assert (asked.block_size, asked.is_closed_loop, len(asked.requests)) == (512, False, 48)
    assert asked.span_s == pytest.approx(sum(each.num_prompt_tokens for each in asked.requests) / 1000)
    assert [each.arrival_s for each in asked.requests] != [each.arrival_s for each in other.requests]
    assert make_requests(replace(workload, is_closed_loop=True), prompt_tokens_per_s=1000, seed=1).is_closed_loop


def test_even_spreading_is_the_same_for_all_seeds(tmp_path: Path) -> None:
    """There is nothing random left."""
    workload = replace(make_workload(write_conversations(tmp_path / "trace.jsonl")), is_spread_evenly=True)
    first, second = (make_requests(workload, prompt_tokens_per_s=1000, seed=seed) for seed in (1, 2))
    assert first == second


def test_sessions_are_always_closed_loop(tmp_path: Path) -> None:
    """Because when their turns came is not known; copies multiply them."""
    workload = replace(make_workload(write_sessions(tmp_path / "trace.jsonl")), num_copies=3)
    asked = make_requests(workload, prompt_tokens_per_s=1000, seed=1)
    assert (asked.block_size, asked.is_closed_loop, len(asked.requests)) == (16, True, 54)


def test_tenants_are_assigned(tmp_path: Path) -> None:
    """Of the given names."""
    workload = replace(make_workload(write_conversations(tmp_path / "trace.jsonl")), tenants=(("a", 1), ("b", 1)))
    requests = make_requests(workload, prompt_tokens_per_s=1000, seed=1).requests
    assert {each.tenant for each in requests} == {"a", "b"}
    assert len({each.block_hashes[0] for each in requests}) == 2


def test_a_trace_with_arrivals_has_no_copies(tmp_path: Path) -> None:
    """They would all come at once."""
    workload = replace(make_workload(write_conversations(tmp_path / "trace.jsonl")), num_copies=2)
    with pytest.raises(TraceError, match=r"--copies 2 is for traces of sessions"):
        make_requests(workload, prompt_tokens_per_s=1000, seed=1)

"""When requests come."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from loadtests.replay.arrivals import load_trace, scale_to_load, start_sessions
from loadtests.replay.trace import Trace, TraceError, TraceKind, TraceRequest, read_trace
from tests.loadtests.replay.test_trace import row, session_row, write


def sessions_trace(tmp_path: Path, *, num_sessions: int = 200, with_times: bool = True) -> Trace:
    """Sessions of three turns of 33 tokens; the second comes 1 s, the third 3 s after the first."""
    rows = [
        session_row(f"s{session}", turn, timestamp=50_000 + at_ms if with_times else None)
        for session in range(num_sessions)
        for turn, at_ms in enumerate((0, 1000, 3000))
    ]
    return read_trace(write(tmp_path / "trace.jsonl", *rows))


def start(trace: Trace, *, seed: int = 1) -> tuple[TraceRequest, ...]:
    """At 3.3 sessions/s: half of what two replicas of 330 tokens/s can."""
    return start_sessions(trace, load=0.5, num_replicas=2, prefill_tokens_per_s=330, think_s=2, rng=Random(seed))


def turns_of(requests: Sequence[TraceRequest], session_id: str) -> list[TraceRequest]:
    """In order."""
    return [request for request in requests if request.session_id == session_id]


def test_requests_of_one_stamp_are_spread_evenly(tmp_path: Path) -> None:
    """Over the stamp's 3 s, in order of the file; stamps in order of time."""
    rows = [row(6000), row(0, tokens=1026), row(0), row(0), row(0)]
    requests = load_trace(write(tmp_path / "trace.jsonl", *rows))
    assert [request.arrival_s for request in requests] == [0, 0.75, 1.5, 2.25, 6]
    assert requests[0].num_prompt_tokens == 1026


def test_requests_of_one_stamp_are_spread_at_random(tmp_path: Path) -> None:
    """By the seed, and within the stamp."""
    path = write(tmp_path / "trace.jsonl", *[row(3000)] * 5)
    arrivals_s, again_s, other_s = (
        [request.arrival_s for request in load_trace(path, rng=Random(seed))] for seed in (1, 1, 2)
    )
    assert arrivals_s == again_s == sorted(arrivals_s)
    assert arrivals_s != other_s
    assert all(3 <= arrival_s < 6 for arrival_s in arrivals_s)


def test_a_load_is_prompt_tokens_over_what_replicas_can_prefill(tmp_path: Path) -> None:
    """4,100 tokens at half of what two replicas of 1,000 tokens/s can: 4.1 s from the first arrival to the last."""
    requests = load_trace(write(tmp_path / "trace.jsonl", *[row(stamp) for stamp in (3000, 6000, 9000, 15000)]))
    scaled = scale_to_load(requests, load=0.5, num_replicas=2, prefill_tokens_per_s=1000)
    assert [request.arrival_s for request in scaled] == pytest.approx([0, 1.025, 2.05, 4.1])
    assert scaled[0].block_hashes == requests[0].block_hashes


def test_an_empty_trace_cannot_be_paced() -> None:
    """There is nothing to pace."""
    with pytest.raises(TraceError, match="no requests"):
        scale_to_load((), load=1, num_replicas=1, prefill_tokens_per_s=1)


def test_sessions_start_as_a_poisson_process_at_the_load(tmp_path: Path) -> None:
    """200 sessions of 99 tokens in about 60 s, with gaps as uneven as a Poisson process's (deviation = mean)."""
    starts_s = [each.arrival_s for each in start(sessions_trace(tmp_path)) if each.predecessor is None]
    gaps_s = [later - earlier for earlier, later in pairwise(starts_s)]
    mean_s = sum(gaps_s) / len(gaps_s)
    assert mean_s == pytest.approx(0.3, rel=0.2)
    assert sum((gap_s - mean_s) ** 2 for gap_s in gaps_s) / len(gaps_s) == pytest.approx(mean_s**2, rel=0.4)


@pytest.mark.parametrize(("with_times", "gaps_s"), [(True, (1, 2)), (False, (2, 2))])
def test_turns_keep_their_gaps(tmp_path: Path, *, with_times: bool, gaps_s: tuple[float, float]) -> None:
    """As recorded, or the time to think; every session is there once, and its turns follow each other."""
    requests = start(sessions_trace(tmp_path, with_times=with_times))
    assert [each.arrival_s for each in requests] == sorted(each.arrival_s for each in requests)
    for session in range(200):
        first, second, third = turns_of(requests, f"s{session}")
        assert (second.arrival_s - first.arrival_s, third.arrival_s - second.arrival_s) == pytest.approx(gaps_s)
        assert first.predecessor is None
        assert second.predecessor == requests.index(first)
        assert third.predecessor == requests.index(second)


def test_starts_are_a_matter_of_the_seed(tmp_path: Path) -> None:
    """Times and order of the sessions."""
    trace = sessions_trace(tmp_path)
    assert start(trace) == start(trace)
    assert [each.session_id for each in start(trace)] != [each.session_id for each in start(trace, seed=2)]


def test_sessions_are_no_mooncake_trace(tmp_path: Path) -> None:
    """Who needs arrivals says so."""
    sessions_trace(tmp_path)
    with pytest.raises(TraceError, match="a Mooncake trace is needed"):
        load_trace(tmp_path / "trace.jsonl")


def test_the_kind_is_read_from_the_rows(tmp_path: Path) -> None:
    """And decides the block size."""
    assert sessions_trace(tmp_path).kind is TraceKind.SESSIONS
    assert read_trace(write(tmp_path / "mooncake.jsonl", row())).kind is TraceKind.MOONCAKE
    assert (TraceKind.SESSIONS.block_size, TraceKind.MOONCAKE.block_size) == (16, 512)

"""Sessions started again and again; days, and steps."""

import csv
import io
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import zstandard

from benchmarks.virtual.autoscaling import traffic
from benchmarks.virtual.autoscaling.traffic import (
    NEW_SHARE,
    PHASE_S,
    THINK_S,
    WINDOW_S,
    day_rates,
    make_day,
    make_step,
    read_sessions,
    start_sessions,
)
from loadtests.replay.trace import TraceError
from tests.loadtests.replay.traces import write_rows


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Two sessions with one block in common, in Mooncake's format: three requests and two."""
    rows = [
        {"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]},
        {"timestamp": 3000, "input_length": 1100, "output_length": 5, "hash_ids": [0, 5, 6]},
        {"timestamp": 9000, "input_length": 1600, "output_length": 5, "hash_ids": [0, 1, 3, 4]},
        {"timestamp": 12000, "input_length": 1600, "output_length": 5, "hash_ids": [0, 5, 7, 8]},
    ]
    return write_rows(tmp_path / "chats.jsonl", rows)


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    """Two sessions of two turns each without times, of 32 and 40 small blocks; the first 16 are common."""
    rows = [
        {
            "timestamp": None,
            "session_id": name,
            "turn": turn,
            "input_length": 16 * num_blocks + 1,
            "output_length": 3,
            "hash_ids": [*range(16), *range(start, start + num_blocks - 15)],
        }
        for name, start in (("a", 100), ("b", 200))
        for turn, num_blocks in enumerate((32, 40))
    ]
    return write_rows(tmp_path / "agents.jsonl", rows)


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """Two clients of one model on two days, and another model."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["category", "model", "client", "t_s", "rate_rps", "iat_cv"])
    writer.writerows(
        [["language", "m-small", client, 600 * window, rate, 1] for client, window, rate in ((0, 0, 1), (1, 0, 2))]
    )
    writer.writerows([["language", "m-small", 0, 86_400 + 600 * window, window % 2 + 1, 1] for window in range(144)])
    writer.writerow(["language", "other", 0, 600, 9, 1])
    path = tmp_path / "rates.csv.zst"
    path.write_bytes(zstandard.compress(text.getvalue().encode()))
    return path


def test_turns_of_a_session_follow_as_recorded(chats: Path) -> None:
    """Within the trace's stamps of 3 s; a session of its own for each start, which shares the common block only."""
    sessions = read_sessions(chats, rng=Random(1))
    assert (len(sessions.turns), sessions.mean_turns, sessions.block_size) == (2, 2, 512)
    requests = start_sessions(sessions, rates_rps=[0.5], window_s=1000, rng=Random(1))
    by_session: dict[str, list[float]] = {}
    for request in requests:
        by_session.setdefault(request.session_id, []).append(request.arrival_s)
    gaps_s = [times_s[1] - times_s[0] for times_s in by_session.values() if len(times_s) > 1]
    assert gaps_s
    assert all(6 <= gap_s <= 12 for gap_s in gaps_s)
    uses = Counter(block for request in requests for block in set(request.block_hashes))
    assert uses.most_common(1)[0][1] == len(requests)
    assert sorted(set(uses.values())) == [1, 2, len(requests)]


def test_rates_are_kept_window_by_window(chats: Path) -> None:
    """None where none are wanted, and on average what is wanted."""
    sessions = read_sessions(chats, rng=Random(1))
    requests = start_sessions(sessions, rates_rps=[2, 0, 4], window_s=2000, rng=Random(1))
    counts = Counter(int(request.arrival_s // 2000) for request in requests)
    assert counts[0] == pytest.approx(4000, rel=0.1)
    assert counts[1] < 40  # second turns of what began before
    assert counts[2] == pytest.approx(8000, rel=0.1)
    assert [each.arrival_s for each in requests] == sorted(each.arrival_s for each in requests)


def test_small_blocks_become_larger_ones(agents: Path) -> None:
    """Every eighth hash stands for all before it; turns without times are a think time apart."""
    sessions = read_sessions(agents, rng=Random(1))
    assert sessions.block_size == 128
    assert [[len(turn.block_hashes) for turn in turns] for turns in sessions.turns] == [[4, 5], [4, 5]]
    assert [[turn.arrival_s for turn in turns] for turns in sessions.turns] == [[0, THINK_S]] * 2
    assert len(sessions.common_blocks()) == 2


def test_a_day_has_the_shape_of_the_rates(chats: Path, rates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes once and ten minutes twice as much, in turn."""
    day = make_day(chats, rates, mean_rps=0.3, seed=1)
    counts = Counter(int(request.arrival_s // WINDOW_S) % 2 for request in day.requests)
    assert len(day.requests) == pytest.approx(0.3 * 86_400, rel=0.05)
    assert counts[1] / counts[0] == pytest.approx(2, rel=0.1)
    monkeypatch.setattr(traffic, "DAY", 0)
    assert day_rates(rates)[:2] == [3, 0]


@pytest.mark.parametrize(("model", "day"), [("n", 0), ("m-small", 5)])
def test_a_day_that_is_not_there_is_named(rates: Path, model: str, day: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was asked for."""
    monkeypatch.setattr(traffic, "MODEL", model)
    monkeypatch.setattr(traffic, "DAY", day)
    with pytest.raises(TraceError, match=f"no requests of model '{model}' on day {day}"):
        day_rates(rates)


def test_another_file_is_no_table_of_rates(chats: Path, tmp_path: Path) -> None:
    """Nor an absent one."""
    with pytest.raises(TraceError, match="is not ServeGen's table"):
        day_rates(chats)
    with pytest.raises(TraceError, match="cannot read clients' rates"):
        day_rates(tmp_path / "absent.zst")


def test_a_step_changes_blocks_and_nothing_else(agents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle phase, of about the share of sessions; arrivals and lengths are those without it."""
    with_step = make_step(agents, rps=0.5, seed=1)
    monkeypatch.setattr(traffic, "NEW_SHARE", 0)
    without = make_step(agents, rps=0.5, seed=1)
    pairs = list(zip(with_step.requests, without.requests, strict=True))
    assert all(one.arrival_s == other.arrival_s for one, other in pairs)
    assert all(one.num_prompt_tokens == other.num_prompt_tokens for one, other in pairs)
    middle = with_step.phases[1]
    changed = [one for one, other in pairs if one.block_hashes != other.block_hashes]
    assert all(middle.start_s <= each.arrival_s < middle.end_s for each in changed)
    assert len(changed) == pytest.approx(0.5 * NEW_SHARE * PHASE_S, rel=0.15)
    blocks = [block for each in changed for block in each.block_hashes]
    assert len(set(blocks)) == len(blocks)

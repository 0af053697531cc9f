"""Reading traces."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import zstandard

from loadtests.replay.trace import TraceError, read_trace


def row(timestamp: int = 0, *, tokens: int = 1025, ids: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    """A request of the trace: two full blocks and one token by default."""
    return {"timestamp": timestamp, "input_length": tokens, "output_length": 7, "hash_ids": ids}


def session_row(session_id: str, turn: int, *, timestamp: int | None) -> dict[str, Any]:
    """A turn of two full blocks and one token."""
    row = {"timestamp": timestamp, "session_id": session_id, "turn": turn}
    return row | {"input_length": 33, "output_length": 7, "hash_ids": [1, turn, 100 + turn]}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    """A trace file, compressed where its name says so."""
    content = "".join(json.dumps(each) + "\n" for each in rows).encode()
    path.write_bytes(zstandard.compress(content) if path.suffix == ".zst" else content)
    return path


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.zst"])
def test_plain_and_compressed_traces_are_read(tmp_path: Path, name: str) -> None:
    """Only full blocks have hashes; equal ids have equal ones."""
    first, second = read_trace(write(tmp_path / name, row(0), row(3000, tokens=1024, ids=(0, 9)))).requests
    assert (first.num_prompt_tokens, first.num_output_tokens, len(first.block_hashes)) == (1025, 7, 2)
    assert first.block_hashes[0] == second.block_hashes[0]
    assert first.block_hashes[1] != second.block_hashes[1]


def test_sessions_are_read_turn_by_turn(tmp_path: Path) -> None:
    """In order of the turns, each following the one before; times since the session's first, where they are known."""
    rows = [
        session_row("b", 1, timestamp=7000),
        session_row("a", 2, timestamp=None),
        session_row("b", 2, timestamp=7500),
        session_row("a", 1, timestamp=None),
    ]
    requests = read_trace(write(tmp_path / "trace.jsonl", *rows)).requests
    assert [(each.session_id, each.predecessor) for each in requests] == [("a", None), ("a", 0), ("b", None), ("b", 2)]
    assert [each.arrival_s for each in requests[2:]] == [0, 0.5]
    assert all(math.isnan(each.arrival_s) for each in requests[:2])
    assert [len(each.block_hashes) for each in requests] == [2] * 4


def test_mooncake_sessions_are_derived(tmp_path: Path) -> None:
    """The second request continues the first, the third is another's; ids name whole sessions."""
    rows = [row(0), row(3000, tokens=1537, ids=(0, 1, 5, 6)), row(6000, ids=(7, 8, 9))]
    requests = read_trace(write(tmp_path / "trace.jsonl", *rows, *[row(9000, ids=(0, 99, 98))] * 2)).requests
    assert [each.predecessor for each in requests] == [None, 0, None, None, 3]
    assert [requests[0].session_id == each.session_id for each in requests] == [True, True, False, False, False]


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        json.dumps({"timestamp": 0}),
        json.dumps(row(ids=(1,))),
        json.dumps(row(tokens=0, ids=())),
        json.dumps([1]),
        "",
        json.dumps(session_row("a", 1, timestamp=0) | {"input_length": 100}),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    """With the file's name."""
    path = tmp_path / "trace.jsonl"
    path.write_text(content)
    with pytest.raises(TraceError, match=r"trace\.jsonl is not a request trace"):
        read_trace(path)


def test_an_absent_trace_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """It names the file."""
    with pytest.raises(TraceError, match=r"cannot read the trace .*absent\.jsonl.*give the path"):
        read_trace(tmp_path / "absent.jsonl")

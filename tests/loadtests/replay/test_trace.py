"""Reading and pacing traces."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard

from loadtests.replay.trace import TraceError, load_trace, scale_to_load


def row(timestamp: int = 0, *, tokens: int = 1025, ids: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    """A request of the trace: two full blocks and one token by default."""
    return {"timestamp": timestamp, "input_length": tokens, "output_length": 7, "hash_ids": ids}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    """A trace file, compressed where its name says so."""
    content = "".join(json.dumps(each) + "\n" for each in rows).encode()
    path.write_bytes(zstandard.compress(content) if path.suffix == ".zst" else content)
    return path


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.zst"])
def test_plain_and_compressed_traces_are_read(tmp_path: Path, name: str) -> None:
    """Only full blocks have hashes; equal ids have equal ones."""
    first, second = load_trace(write(tmp_path / name, row(0), row(3000, tokens=1024, ids=(0, 9))))
    assert (first.num_prompt_tokens, first.num_output_tokens, len(first.block_hashes)) == (1025, 7, 2)
    assert first.block_hashes[0] == second.block_hashes[0]
    assert first.block_hashes[1] != second.block_hashes[1]


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


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        json.dumps({"timestamp": 0}),
        json.dumps(row(ids=(1,))),
        json.dumps(row(tokens=0, ids=())),
        json.dumps([1]),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    """With the file's name."""
    path = tmp_path / "trace.jsonl"
    path.write_text(content)
    with pytest.raises(TraceError, match=r"trace\.jsonl is not a Mooncake trace"):
        load_trace(path)


def test_an_absent_trace_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    """It names the option."""
    with pytest.raises(TraceError, match=r"cannot read the trace .*absent\.jsonl.*--trace"):
        load_trace(tmp_path / "absent.jsonl")


def test_an_empty_trace_cannot_be_paced() -> None:
    """There is nothing to pace."""
    with pytest.raises(TraceError, match="no requests"):
        scale_to_load((), load=1, num_replicas=1, prefill_tokens_per_s=1)

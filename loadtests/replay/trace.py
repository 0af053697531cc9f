"""Request traces in Mooncake's format: who asks when, how long, and which prefix blocks are shared.

JSON lines, plain or compressed with zstd: `timestamp` in ms, `input_length` and `output_length` in tokens, `hash_ids`
with one id for each 512 tokens begun; equal id means equal whole prefix up to there. Source of the format: FAST'25,
github.com/kvcache-ai/Mooncake.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any, TextIO

import xxhash
import zstandard

from router import BlockHash

BLOCK_SIZE_TOKENS = 512
STAMP_S = 3.0
"""Arrivals in the trace are bunched on a grid of this period."""


class TraceError(ValueError):
    """A trace that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request."""

    arrival_s: float
    """Since the trace's first."""
    num_prompt_tokens: int
    num_output_tokens: int
    block_hashes: tuple[BlockHash, ...]
    """Of the prompt's full blocks."""


def load_trace(path: Path, *, rng: Random | None = None) -> tuple[TraceRequest, ...]:
    """The requests in order of arrival. Those of one stamp are spread evenly over its period, or at random.

    Raises:
        TraceError: the file is absent, or is not such a trace.

    """
    try:
        with _open(path) as lines:
            rows = [json.loads(line) for line in lines]
        rows.sort(key=lambda row: row["timestamp"])
        return tuple(_spread(rows, rng))
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror}; name another with --trace") from error
    except (ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
        raise TraceError(f"{path} is not a Mooncake trace: {type(error).__name__}: {error}") from error


def scale_to_load(
    requests: Sequence[TraceRequest], *, load: float, num_replicas: int, prefill_tokens_per_s: float
) -> tuple[TraceRequest, ...]:
    """The same requests at another pace: `load` is all prompt tokens a second over what all replicas can prefill."""
    if not requests:
        raise TraceError("the trace has no requests")
    prompt_tokens = sum(request.num_prompt_tokens for request in requests)
    wanted_s = prompt_tokens / (load * num_replicas * prefill_tokens_per_s)
    start_s, span_s = requests[0].arrival_s, requests[-1].arrival_s - requests[0].arrival_s
    pace = wanted_s / span_s if span_s else 0.0
    return tuple(replace(request, arrival_s=(request.arrival_s - start_s) * pace) for request in requests)


def _open(path: Path) -> TextIO:
    if path.suffix == ".zst":
        text: TextIO = zstandard.open(path, "rt", encoding="utf-8")
        return text
    return path.open(encoding="utf-8")


def _spread(rows: Sequence[dict[str, Any]], rng: Random | None) -> Iterator[TraceRequest]:
    for stamp_ms, group in groupby(rows, key=lambda row: row["timestamp"]):
        together = list(group)
        num = len(together)
        shares = [index / num for index in range(num)] if rng is None else sorted(rng.random() for _ in together)
        for share, row in zip(shares, together, strict=True):
            yield _request(row, arrival_s=stamp_ms / 1000 + STAMP_S * share)


def _request(row: dict[str, Any], *, arrival_s: float) -> TraceRequest:
    num_tokens, hash_ids = row["input_length"], row["hash_ids"]
    if num_tokens < 1 or len(hash_ids) != -(-num_tokens // BLOCK_SIZE_TOKENS):
        raise ValueError(f"{len(hash_ids)} hash ids for {num_tokens} tokens: one for each 512 begun is expected")
    num_full_blocks = num_tokens // BLOCK_SIZE_TOKENS
    return TraceRequest(arrival_s, num_tokens, row["output_length"], tuple(map(_hash, hash_ids[:num_full_blocks])))


def _hash(block_id: int) -> BlockHash:
    """Ids are small numbers; block hashes are spread over 64 bits, as the ring expects."""
    return BlockHash(xxhash.xxh3_64_intdigest(str(block_id).encode()))

"""Request traces: who asks, how long, and which prefix blocks are shared.

JSON lines, plain or compressed with zstd. Two kinds are read:

- Mooncake's format (FAST'25, github.com/kvcache-ai/Mooncake): `timestamp` in ms, `input_length` and `output_length` in
  tokens, `hash_ids` with one id for each 512 tokens begun; equal id means equal whole prefix up to there.
- Sessions: the same with one id for each 16 tokens begun, and a `session_id`. `timestamp` says when in its session a
  turn came, and is null where no one knows; when sessions started is never known.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

import xxhash
import zstandard

from loadtests.replay.sessions import predecessors
from router import BlockHash, RequestId, RouteRequest, session_key

BLOCK_SIZE_TOKENS = 512


class TraceError(ValueError):
    """A trace that cannot be used; the message says why."""


class TraceKind(Enum):
    """What is known, and how many tokens a block has."""

    MOONCAKE = BLOCK_SIZE_TOKENS
    """Times of requests are known; which one continues which is derived from their blocks."""
    SESSIONS = 16
    """It is known which request continues which; of times, at most those between the turns of a session."""

    @property
    def block_size(self) -> int:
        """Size of a block, in tokens."""
        return self.value


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request."""

    arrival_s: float
    """Since the trace's first."""
    num_prompt_tokens: int
    num_output_tokens: int
    block_hashes: tuple[BlockHash, ...]
    """Hashes of the prompt's full blocks."""
    answer_hashes: tuple[BlockHash, ...] = ()
    """Hashes of the further blocks that the answer fills, where they are known."""
    session_id: str = ""
    tenant: str = ""
    predecessor: int | None = None
    """Position in the trace of the request that this one continues; an earlier one."""
    max_output_tokens: int | None = None
    """The client's limit (`max_tokens`); None without one, as in all traces from files."""

    def asked(self, request_id: RequestId) -> RouteRequest:
        """The same, as a router gets to see it."""
        return RouteRequest(
            request_id,
            model="",
            tenant=self.tenant,
            num_prompt_tokens=self.num_prompt_tokens,
            block_hashes=self.block_hashes,
            session_key=session_key(self.session_id),
            max_answer_tokens=self.max_output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """What a file says."""

    kind: TraceKind
    requests: tuple[TraceRequest, ...]
    """Mooncake: in order of arrival, those of one stamp together. Sessions: one after the other, and `arrival_s` is
    the time since the session's first turn, not a number where it is unknown."""


def read_trace(path: Path) -> Trace:
    """The file's requests.

    Raises:
        TraceError: the file is absent, or is not such a trace.

    """
    try:
        with _open(path) as lines:
            return _trace([json.loads(line) for line in lines])
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror}; give the path of an existing one") from error
    except (ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
        raise TraceError(f"{path} is not a request trace: {type(error).__name__}: {error}") from error


def _open(path: Path) -> TextIO:
    if path.suffix == ".zst":
        text: TextIO = zstandard.open(path, "rt", encoding="utf-8")
        return text
    return path.open(encoding="utf-8")


def _trace(rows: list[dict[str, Any]]) -> Trace:
    if not rows:
        raise ValueError("it has no requests")
    if "session_id" in rows[0]:
        return Trace(TraceKind.SESSIONS, tuple(_sessions(rows)))
    return Trace(TraceKind.MOONCAKE, tuple(_mooncake(rows)))


def _mooncake(rows: list[dict[str, Any]]) -> Iterator[TraceRequest]:
    rows.sort(key=lambda row: row["timestamp"])
    requests = [_request(row, TraceKind.MOONCAKE, arrival_s=row["timestamp"] / 1000) for row in rows]
    sessions: list[str] = []
    for request, predecessor in zip(requests, predecessors([each.block_hashes for each in requests]), strict=True):
        sessions.append(f"session-{len(sessions)}" if predecessor is None else sessions[predecessor])
        yield replace(request, session_id=sessions[-1], predecessor=predecessor)


def _sessions(rows: Sequence[dict[str, Any]]) -> Iterator[TraceRequest]:
    position = 0
    for session_id, turns in groupby(sorted(rows, key=_session_and_turn), key=lambda row: row["session_id"]):
        start_ms = None
        for number, row in enumerate(turns):
            start_ms = row["timestamp"] if number == 0 else start_ms
            arrival_s = float("nan") if start_ms is None else (row["timestamp"] - start_ms) / 1000
            request = _request(row, TraceKind.SESSIONS, arrival_s=arrival_s)
            yield replace(request, session_id=str(session_id), predecessor=position - 1 if number else None)
            position += 1


def _session_and_turn(row: dict[str, Any]) -> tuple[str, int]:
    return row["session_id"], row["turn"]


def _request(row: dict[str, Any], kind: TraceKind, *, arrival_s: float) -> TraceRequest:
    num_tokens, hash_ids = row["input_length"], row["hash_ids"]
    if num_tokens < 1 or len(hash_ids) != -(-num_tokens // kind.block_size):
        raise ValueError(f"{len(hash_ids)} hash ids for {num_tokens} tokens: one for each {kind.block_size} begun")
    full = hash_ids[: num_tokens // kind.block_size]
    return TraceRequest(arrival_s, num_tokens, row["output_length"], tuple(map(_hash, full)))


def _hash(block_id: int) -> BlockHash:
    """Ids are small numbers; block hashes are spread over 64 bits, as the ring expects."""
    return BlockHash(xxhash.xxh3_64_intdigest(str(block_id).encode()))

"""Sessions of a trace, started again and again at rates that change."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import isnan
from pathlib import Path
from random import Random

import xxhash

from loadtests.replay.arrivals import spread_stamps
from loadtests.replay.trace import TraceKind, TraceRequest, read_trace
from router import BlockHash

COARSER = 8
"""Small blocks of a trace of sessions that become one: a chained hash stands for all before it, and a day of
agents takes a fraction of the time to replay. At most 127 tokens of a prompt are not reused for it."""
THINK_S = 5.0
"""Seconds between turns, where a trace does not say."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a trace has: the turns of each session, which arrive so long after the first."""

    turns: tuple[tuple[TraceRequest, ...], ...]
    block_size: int

    @property
    def mean_turns(self) -> float:
        """Requests of a session."""
        return sum(map(len, self.turns)) / len(self.turns)

    def common_blocks(self) -> set[BlockHash]:
        """Blocks that more than one session has."""
        counts = Counter(
            block for turns in self.turns for block in {each for turn in turns for each in turn.block_hashes}
        )
        return {block for block, num_sessions in counts.items() if num_sessions > 1}


@dataclass(frozen=True, slots=True)
class TrafficPhase:
    """A time of which results are told apart."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class ScalingTraffic:
    """Requests, and the times that matter."""

    requests: tuple[TraceRequest, ...]
    block_size: int
    phases: tuple[TrafficPhase, ...]


def read_sessions(trace: Path, *, rng: Random) -> Sessions:
    """The sessions of a Mooncake trace by their arrivals, or of a trace of sessions with larger blocks.

    Raises:
        TraceError: the trace cannot be used.

    """
    content = read_trace(trace)
    if content.kind is TraceKind.MOONCAKE:
        requests, step = spread_stamps(content, rng=rng), 1
    else:
        requests, step = content.requests, COARSER
    ordered = sorted(requests, key=lambda request: request.session_id)  # stable: turns stay in order
    return Sessions(
        tuple(tuple(_turns(list(turns), step)) for _, turns in groupby(ordered, key=lambda each: each.session_id)),
        block_size=content.kind.block_size * step,
    )


def start_sessions(
    sessions: Sessions, *, rates_rps: Sequence[float], window_s: float, rng: Random
) -> tuple[TraceRequest, ...]:
    """Sessions drawn at random, with the times between their requests as recorded, so often that at length there are
    so many requests a second: a rate for each window, one after the other. What would come after the last is left out.

    Blocks that several sessions have stay common to all, the others are each session's own.
    """
    common, end_s = sessions.common_blocks(), len(rates_rps) * window_s
    started: list[TraceRequest] = []
    starts_s = _start_times(rates_rps, mean_turns=sessions.mean_turns, window_s=window_s, rng=rng)
    for number, start_s in enumerate(starts_s):
        for turn in rng.choice(sessions.turns):
            if (arrival_s := start_s + turn.arrival_s) < end_s:
                blocks = tuple(each if each in common else salted(each, number) for each in turn.block_hashes)
                started.append(replace(turn, arrival_s=arrival_s, session_id=f"{number}", block_hashes=blocks))
    return tuple(sorted(started, key=lambda request: request.arrival_s))


def salted(block_hash: BlockHash, number: int) -> BlockHash:
    """Another block; the same one for the same number."""
    return BlockHash(xxhash.xxh3_64_intdigest(block_hash.to_bytes(8, "little"), number))


def _turns(turns: Sequence[TraceRequest], step: int) -> Iterator[TraceRequest]:
    first_s = turns[0].arrival_s
    for number, turn in enumerate(turns):
        since_s = number * THINK_S if isnan(turn.arrival_s) else turn.arrival_s - first_s
        yield replace(turn, arrival_s=since_s, predecessor=None, block_hashes=turn.block_hashes[step - 1 :: step])


def _start_times(rates_rps: Sequence[float], *, mean_turns: float, window_s: float, rng: Random) -> Iterator[float]:
    """A Poisson process has no memory, so that it may start again with each window."""
    for number, rate_rps in enumerate(rates_rps):
        time_s = number * window_s
        while rate_rps and (time_s := time_s + rng.expovariate(rate_rps / mean_turns)) < (number + 1) * window_s:
            yield time_s

"""Sessions of a trace, started again and again at rates that change: over a day, or with a step in hit rate."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import isnan
from pathlib import Path
from random import Random
from statistics import fmean

import xxhash
import zstandard

from loadtests.replay.arrivals import spread_stamps
from loadtests.replay.trace import TraceError, TraceKind, TraceRequest, read_trace
from router import BlockHash

COARSER = 8
"""Small blocks of a trace of sessions that become one: a chained hash stands for all before it, and a day of
agents takes a fraction of the time to replay. At most 127 tokens of a prompt are not reused for it."""
THINK_S = 5.0
"""Seconds between turns, where a trace does not say."""
MODEL, DAY = "m-small", 1
"""Of ServeGen (github.com/alibaba/ServeGen): one of its models, and one of its days, counted from 0."""
WINDOW_S = 600.0
"""ServeGen's."""
DAY_S = 86_400.0
NEW_SHARE = 0.25
"""The share of sessions whose prompts are new in the step."""
SETTLING_S = 900.0
"""Seconds until a fleet has the size that suits the traffic; they do not count."""
PHASE_S = 2400.0


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
            block
            for turns in self.turns
            for block in {block_hash for turn in turns for block_hash in turn.block_hashes}
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


def make_day(trace: Path, rates: Path, *, mean_rps: float, seed: int) -> ScalingTraffic:
    """A day of ServeGen's model, with a mean rate of requests.

    Raises:
        TraceError: a file cannot be used.

    """
    shape = day_rates(rates)
    scale = mean_rps / fmean(shape)
    rng = Random(f"day {seed}")
    sessions = read_sessions(trace, rng=rng)
    requests = start_sessions(sessions, rates_rps=[scale * share for share in shape], window_s=WINDOW_S, rng=rng)
    return ScalingTraffic(requests, sessions.block_size, (TrafficPhase("day", 0.0, DAY_S),))


def day_rates(path: Path) -> list[float]:
    """Requests a second of all clients of the model, in each window of the day.

    Raises:
        TraceError: the file is absent or another, or has no such model and day.

    """
    rates_rps = [0.0] * round(DAY_S / WINDOW_S)
    try:
        with zstandard.open(path, "rt", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                window = int(float(row["t_s"]) / WINDOW_S) - DAY * len(rates_rps)
                if row["model"] == MODEL and 0 <= window < len(rates_rps):
                    rates_rps[window] += float(row["rate_rps"])
    except OSError as error:
        raise TraceError(f"cannot read clients' rates {path}: {error.strerror}; give an existing file") from error
    except (KeyError, ValueError, zstandard.ZstdError) as error:
        raise TraceError(f"{path} is not ServeGen's table of rates: {type(error).__name__}: {error}") from error
    if not any(rates_rps):
        raise TraceError(f"{path} has no requests of model {MODEL!r} on day {DAY}")
    return rates_rps


def make_step(trace: Path, *, rps: float, seed: int) -> ScalingTraffic:
    """Prompts as recorded, then those of a quarter of the sessions new, then as recorded again, equally long.

    So it goes when the time of day gets into the first line of a system prompt, and is taken out again. Arrivals and
    lengths are the same as without.

    Raises:
        TraceError: the trace cannot be used.

    """
    names = ("as recorded", f"{NEW_SHARE:.0%} new", "as recorded again")
    starts_s = [SETTLING_S + number * PHASE_S for number in range(len(names))]
    phases = tuple(
        TrafficPhase(name, start_s, start_s + PHASE_S) for name, start_s in zip(names, starts_s, strict=True)
    )
    rng = Random(f"step {seed}")
    sessions = read_sessions(trace, rng=rng)
    requests = start_sessions(sessions, rates_rps=[rps], window_s=phases[-1].end_s, rng=rng)
    return ScalingTraffic(unshare(requests, phases[1], share=NEW_SHARE, rng=rng), sessions.block_size, phases)


def unshare(
    requests: Sequence[TraceRequest], phase: TrafficPhase, *, share: float, rng: Random
) -> tuple[TraceRequest, ...]:
    """Make the blocks new of each request that comes in the phase, for a share of sessions."""
    session_to_is_new = {
        session_id: rng.random() < share for session_id in dict.fromkeys(request.session_id for request in requests)
    }
    return tuple(
        replace(request, block_hashes=tuple(salted(block_hash, -1 - number) for block_hash in request.block_hashes))
        if session_to_is_new[request.session_id] and phase.start_s <= request.arrival_s < phase.end_s
        else request
        for number, request in enumerate(requests)
    )


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
                blocks = tuple(
                    block_hash if block_hash in common else salted(block_hash, number)
                    for block_hash in turn.block_hashes
                )
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

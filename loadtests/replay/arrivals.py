"""Arrivals of requests: the trace's own stamps, spread, or sessions that start at random; at a given pace."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from math import isnan
from pathlib import Path
from random import Random

from loadtests.replay.trace import Trace, TraceError, TraceKind, TraceRequest, read_trace

STAMP_S = 3.0
"""Arrivals in a Mooncake trace are bunched on a grid of this period."""


def load_trace(path: Path, *, rng: Random | None = None) -> tuple[TraceRequest, ...]:
    """A Mooncake trace's requests in order of arrival, spread as by `spread_stamps`.

    Raises:
        TraceError: the file is absent, or is not such a trace.

    """
    trace = read_trace(path)
    if trace.kind is not TraceKind.MOONCAKE:
        raise TraceError(f"{path} has sessions without arrivals: a Mooncake trace is needed here")
    return spread_stamps(trace, rng=rng)


def spread_stamps(trace: Trace, *, rng: Random | None) -> tuple[TraceRequest, ...]:
    """The requests of one stamp spread over its period: at random, or evenly without a generator."""
    return tuple(_spread(trace.requests, rng))


def scale_to_pace(requests: Sequence[TraceRequest], *, prompt_tokens_per_s: float) -> tuple[TraceRequest, ...]:
    """The same requests, from 0 on, at that many prompt tokens a second from the first arrival to the last."""
    if not requests:
        raise TraceError("the trace has no requests")
    prompt_tokens = sum(request.num_prompt_tokens for request in requests)
    start_s, span_s = requests[0].arrival_s, requests[-1].arrival_s - requests[0].arrival_s
    pace = prompt_tokens / prompt_tokens_per_s / span_s if span_s else 0.0
    return tuple(replace(request, arrival_s=(request.arrival_s - start_s) * pace) for request in requests)


def start_sessions(
    trace: Trace, *, prompt_tokens_per_s: float, think_s: float, rng: Random
) -> tuple[TraceRequest, ...]:
    """Sessions in random order, started as a Poisson process at a rate that gives that many prompt tokens a second.

    A turn comes as long after the one before as recorded, or `think_s` later where that is unknown: gaps between
    turns are what they are, whatever the pace.
    """
    sessions = [list(turns) for _, turns in groupby(trace.requests, key=lambda each: each.session_id)]
    rng.shuffle(sessions)
    prompt_tokens = sum(request.num_prompt_tokens for request in trace.requests)
    sessions_per_s = prompt_tokens_per_s * len(sessions) / prompt_tokens
    start_s, started = 0.0, []
    for turns in sessions:
        started += [replace(turn, arrival_s=start_s + at_s) for turn, at_s in _turn_times(turns, think_s)]
        start_s += rng.expovariate(sessions_per_s)
    return _in_order(started)


def _spread(requests: Sequence[TraceRequest], rng: Random | None) -> Iterator[TraceRequest]:
    for stamp_s, group in groupby(requests, key=lambda request: request.arrival_s):
        together = list(group)
        num = len(together)
        shares = [index / num for index in range(num)] if rng is None else sorted(rng.random() for _ in together)
        for share, request in zip(shares, together, strict=True):
            yield replace(request, arrival_s=stamp_s + STAMP_S * share)


def _turn_times(turns: Sequence[TraceRequest], think_s: float) -> Iterator[tuple[TraceRequest, float]]:
    for number, turn in enumerate(turns):
        yield turn, number * think_s if isnan(turn.arrival_s) else turn.arrival_s


def _in_order(requests: Sequence[TraceRequest]) -> tuple[TraceRequest, ...]:
    """The requests by arrival; each predecessor is the request before in the same session, at its new position."""
    session_to_latest: dict[str, int] = {}
    ordered = []
    for position, request in enumerate(sorted(requests, key=lambda each: each.arrival_s)):  # stable within a session
        ordered.append(replace(request, predecessor=session_to_latest.get(request.session_id)))
        session_to_latest[request.session_id] = position
    return tuple(ordered)

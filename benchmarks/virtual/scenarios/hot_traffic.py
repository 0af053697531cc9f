"""A trace in which one prefix becomes hot: its peak comes with the middle third of the other requests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from random import Random

import xxhash

from loadtests.replay.arrivals import scale_to_pace
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from router import BlockHash

PREFIX = tuple(BlockHash(xxhash.xxh3_64_intdigest(b"hot", seed)) for seed in range(8))
PREFIX_TOKENS = len(PREFIX) * BLOCK_SIZE_TOKENS
SUFFIX_TOKENS = (256, BLOCK_SIZE_TOKENS - 1)
"""Tokens of each request's own; its last block is never full."""
ANSWER_TOKENS = (8, 64)
QUIET_SHARE, PEAK_SHARE = 0.05, 0.8
"""Shares of hot requests outside the peak and in it."""


@dataclass(frozen=True, slots=True)
class HotTraffic:
    """All requests, in order of arrival, and which are which."""

    requests: tuple[TraceRequest, ...]
    hot_arrivals_s: frozenset[float]
    """Arrivals of the requests with the hot prefix, in seconds."""
    peak_start_s: float
    peak_end_s: float


@dataclass(frozen=True, slots=True)
class _Phase:
    """Arrivals count from its start."""

    others: list[TraceRequest]
    hot: list[TraceRequest]
    span_s: float


def heat(others: Sequence[TraceRequest], *, tokens_per_s: float, is_prefix_counted: bool, rng: Random) -> HotTraffic:
    """The other requests and, at random among them, hot ones: a constant rate of prompt tokens.

    Without its prefix, a hot request counts as the tokens of its own: what is left of it where it hits.
    """
    uncounted_tokens = 0 if is_prefix_counted else PREFIX_TOKENS
    borders = [len(others) * third // 3 for third in range(4)]
    phases = [
        _phase(others[start:end], share, uncounted_tokens, tokens_per_s, rng)
        for (start, end), share in zip(pairwise(borders), (QUIET_SHARE, PEAK_SHARE, QUIET_SHARE), strict=True)
    ]
    starts_s = list(accumulate((phase.span_s for phase in phases), initial=0.0))
    placed = list(zip(phases, starts_s, strict=False))
    hot = [_later(each, start_s) for phase, start_s in placed for each in phase.hot]
    not_hot = [_later(each, start_s) for phase, start_s in placed for each in phase.others]
    return HotTraffic(
        tuple(sorted((*hot, *not_hot), key=lambda each: each.arrival_s)),
        frozenset(each.arrival_s for each in hot),
        peak_start_s=starts_s[1],
        peak_end_s=starts_s[2],
    )


def _phase(
    others: Sequence[TraceRequest], share: float, uncounted_tokens: int, tokens_per_s: float, rng: Random
) -> _Phase:
    hot = [_hot_request(rng) for _ in range(round(len(others) * share / (1 - share)))]
    others_tokens = sum(each.num_prompt_tokens for each in others)
    hot_tokens = sum(each.num_prompt_tokens - uncounted_tokens for each in hot)
    span_s = (others_tokens + hot_tokens) / tokens_per_s
    until_last_s = span_s * (len(others) - 1) / len(others)  # the next phase begins as much later
    return _Phase(
        list(scale_to_pace(others, prompt_tokens_per_s=others_tokens / until_last_s)),
        [_later(each, rng.uniform(0, span_s)) for each in hot],
        span_s,
    )


def _later(request: TraceRequest, by_s: float) -> TraceRequest:
    """Open-loop: positions change, so that predecessors are not known any more."""
    return replace(request, arrival_s=request.arrival_s + by_s, predecessor=None)


def _hot_request(rng: Random) -> TraceRequest:
    """A hot request with a session of its own."""
    return TraceRequest(
        0.0,
        PREFIX_TOKENS + rng.randint(*SUFFIX_TOKENS),
        rng.randint(*ANSWER_TOKENS),
        PREFIX,
        session_id=f"hot {rng.random()}",
    )

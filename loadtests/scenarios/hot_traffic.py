"""A trace in which one prefix becomes hot: a third of the requests before, a third during and a third after its peak."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import xxhash

from loadtests.replay.arrivals import scale_to_pace
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from router import BlockHash

PREFIX = tuple(BlockHash(xxhash.xxh3_64_intdigest(b"hot", seed)) for seed in range(8))
PREFIX_TOKENS = len(PREFIX) * BLOCK_SIZE_TOKENS
SUFFIX_TOKENS = (256, BLOCK_SIZE_TOKENS - 1)
"""Of each request's own, so that its last block is never full."""
ANSWER_TOKENS = (8, 64)
QUIET_SHARE, PEAK_SHARE = 0.05, 0.8
"""Of all requests, outside the peak and in it."""


@dataclass(frozen=True, slots=True)
class HotTraffic:
    """All requests, in order of arrival, and which are which."""

    requests: tuple[TraceRequest, ...]
    hot_arrivals_s: frozenset[float]
    """Of the requests with the hot prefix."""
    peak_start_s: float
    peak_end_s: float


def heat(
    background: Sequence[TraceRequest], *, tokens_per_s: float, is_prefix_counted: bool, rng: Random
) -> HotTraffic:
    """The background and, at random among it, hot requests: so many prompt tokens a second at all times.

    Without its prefix, a hot request counts as the tokens of its own: what is left of it where it hits.
    """
    together: list[TraceRequest] = []
    hot_arrivals_s: set[float] = set()
    borders = [len(background) * third // 3 for third in range(4)]
    starts_s = [0.0]
    for (start, end), share in zip(pairwise(borders), (QUIET_SHARE, PEAK_SHARE, QUIET_SHARE), strict=True):
        part = background[start:end]
        hot = [_hot_request(rng) for _ in range(round(len(part) * share / (1 - share)))]
        part_tokens = sum(each.num_prompt_tokens for each in part)
        hot_tokens = sum(each.num_prompt_tokens - PREFIX_TOKENS * (not is_prefix_counted) for each in hot)
        span_s = (part_tokens + hot_tokens) / tokens_per_s
        hot = [replace(each, arrival_s=starts_s[-1] + rng.uniform(0, span_s)) for each in hot]
        hot_arrivals_s.update(each.arrival_s for each in hot)
        together += hot
        for each in scale_to_pace(part, prompt_tokens_per_s=part_tokens / span_s):
            together.append(replace(each, arrival_s=starts_s[-1] + each.arrival_s, predecessor=None))
        starts_s.append(starts_s[-1] + span_s)
    in_order = tuple(sorted(together, key=lambda each: each.arrival_s))
    return HotTraffic(in_order, frozenset(hot_arrivals_s), peak_start_s=starts_s[1], peak_end_s=starts_s[2])


def _hot_request(rng: Random) -> TraceRequest:
    """A conversation of its own, at no time yet."""
    return TraceRequest(
        0.0,
        PREFIX_TOKENS + rng.randint(*SUFFIX_TOKENS),
        rng.randint(*ANSWER_TOKENS),
        PREFIX,
        session_id=f"hot {rng.random()}",
    )

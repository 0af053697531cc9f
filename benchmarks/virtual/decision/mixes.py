"""What can be mixed into a trace's prompts: a prefix that becomes hot, giant documents; or nothing is shared any more.

The load stays as it is: prompt tokens come as fast as without. All of it is open-loop.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, pairwise
from math import exp, log
from random import Random

import xxhash

from loadtests.replay.arrivals import scale_to_pace
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from router import BlockHash

HOT_SHARES = (0.05, 0.8, 0.05)
"""Shares of the requests with the hot prefix before, in and after the peak, which comes with the middle third."""
HOT_BLOCKS = 8
HOT_ANSWER_TOKENS = (8, 64)
GIANT_SHARE = 0.2
"""Share of giants in all prompt tokens."""
GIANT_TOKENS = (100_000, 400_000)
"""Tokens of a document; a replica caches 500,000. As many documents have less than 200,000 as have more."""
NUM_QUESTIONS, NUM_QUESTIONS_WEIGHTS = (1, 2, 3), (60, 25, 15)
"""Questions about one document, and their weights."""
PAUSE_S = (30.0, 240.0)
"""Seconds between two questions; computing the document takes 10 to 40 s."""
GIANT_ANSWER_TOKENS = (64, 512)
TAIL_TOKENS = (256, BLOCK_SIZE_TOKENS - 1)
"""Tokens of each request's own, which fill no block."""

Mix = Callable[[Sequence[TraceRequest], float, Random], list[TraceRequest]]
"""Takes the trace's requests, the prompt tokens a second, and random numbers."""


def hot_prefix(others: Sequence[TraceRequest], tokens_per_s: float, rng: Random) -> list[TraceRequest]:
    """The trace, and many requests with one prefix, which does not count as load: it is computed once where it hits."""
    prefix = _document("hot", HOT_BLOCKS)
    borders = [len(others) * third // len(HOT_SHARES) for third in range(len(HOT_SHARES) + 1)]
    start_s, mixed = 0.0, []
    for (first, end), share in zip(pairwise(borders), HOT_SHARES, strict=True):
        usual, num_hot = others[first:end], round((end - first) * share / (1 - share))
        hot = [_request(prefix, HOT_ANSWER_TOKENS, f"hot {rng.random()}", rng) for _ in range(num_hot)]
        usual_tokens = _tokens(usual)
        span_s = (usual_tokens + _tokens(hot) - num_hot * HOT_BLOCKS * BLOCK_SIZE_TOKENS) / tokens_per_s
        paced = scale_to_pace(usual, prompt_tokens_per_s=usual_tokens / span_s)
        mixed += [_at(request, start_s + request.arrival_s) for request in paced]
        mixed += [_at(request, start_s + rng.uniform(0, span_s)) for request in hot]
        start_s += span_s
    return _in_order(mixed)


def giants(others: Sequence[TraceRequest], tokens_per_s: float, rng: Random) -> list[TraceRequest]:
    """The trace, slowed down, and documents that fill a good part of a cache; some are asked about again."""
    paced = scale_to_pace(others, prompt_tokens_per_s=tokens_per_s * (1 - GIANT_SHARE))
    mixed, left_tokens = [_at(request, request.arrival_s) for request in paced], _tokens(paced)
    left_tokens = round(left_tokens * GIANT_SHARE / (1 - GIANT_SHARE))
    for number in count():
        if left_tokens <= 0:
            return _in_order(mixed)
        questions = list(_questions(f"document {number}", paced[-1].arrival_s, rng))
        left_tokens -= _tokens(questions)
        mixed += questions
    raise AssertionError


def nothing_shared(others: Sequence[TraceRequest], _tokens_per_s: float, _rng: Random) -> list[TraceRequest]:
    """The trace's arrivals and lengths, and blocks that come once each: no router can help."""
    return [
        replace(request, block_hashes=_document(f"unshared {number}", len(request.block_hashes)))
        for number, request in enumerate(others)
    ]


MIXES: dict[str, Mix] = {"hot prefix": hot_prefix, "giants": giants, "nothing shared": nothing_shared}


def _questions(name: str, span_s: float, rng: Random) -> Iterator[TraceRequest]:
    """Questions about one document. What would come after the trace's end comes at its start instead."""
    least, most = map(log, GIANT_TOKENS)
    blocks = _document(name, round(exp(rng.uniform(least, most))) // BLOCK_SIZE_TOKENS)
    at_s = rng.uniform(0, span_s)
    for _ in range(rng.choices(NUM_QUESTIONS, NUM_QUESTIONS_WEIGHTS)[0]):
        yield _at(_request(blocks, GIANT_ANSWER_TOKENS, name, rng), at_s % span_s)
        at_s += rng.uniform(*PAUSE_S)


def _request(
    blocks: tuple[BlockHash, ...], answer_tokens: tuple[int, int], session_id: str, rng: Random
) -> TraceRequest:
    prompt_tokens = len(blocks) * BLOCK_SIZE_TOKENS + rng.randint(*TAIL_TOKENS)
    return TraceRequest(0.0, prompt_tokens, rng.randint(*answer_tokens), blocks, session_id=session_id)


def _document(name: str, num_blocks: int) -> tuple[BlockHash, ...]:
    return tuple(BlockHash(xxhash.xxh3_64_intdigest(name.encode(), block)) for block in range(num_blocks))


def _at(request: TraceRequest, arrival_s: float) -> TraceRequest:
    """The request at another time; positions change, so its predecessor is not known any more."""
    return replace(request, arrival_s=arrival_s, predecessor=None)


def _in_order(requests: Sequence[TraceRequest]) -> list[TraceRequest]:
    return sorted(requests, key=lambda request: request.arrival_s)


def _tokens(requests: Sequence[TraceRequest]) -> int:
    return sum(request.num_prompt_tokens for request in requests)

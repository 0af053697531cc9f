"""A trace with giants among its requests: documents so long that one fills a good part of a replica's cache.

Most are asked about once. Some are asked about again after a while, so that to keep them is not always worthless.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import exp, log
from random import Random

import xxhash

from loadtests.replay.arrivals import scale_to_pace
from loadtests.replay.trace import BLOCK_SIZE_TOKENS, TraceRequest
from router import BlockHash

DOCUMENT_TOKENS = (100_000, 400_000)
"""Tokens of a document; a replica caches 500,000. As many documents have less than 200,000 as have more."""
NUM_QUESTIONS, NUM_QUESTIONS_WEIGHTS = (1, 2, 3), (60, 25, 15)
"""Questions about one document, and how often there are as many."""
PAUSE_S = (30.0, 240.0)
"""Seconds between two questions; computing the document takes 10 to 40 s."""
QUESTION_TOKENS = (32, BLOCK_SIZE_TOKENS - 1)
"""So that a question fills no block."""
ANSWER_TOKENS = (64, 512)


@dataclass(frozen=True, slots=True)
class GiantTraffic:
    """All requests, in order of arrival, and which are giants."""

    requests: tuple[TraceRequest, ...]
    giant_arrivals_s: frozenset[float]

    @property
    def ordinary(self) -> tuple[TraceRequest, ...]:
        """The same traffic without giants; everything else comes when it did."""
        return tuple(each for each in self.requests if each.arrival_s not in self.giant_arrivals_s)


def add_giants(
    ordinary: Sequence[TraceRequest], *, tokens_per_s: float, giant_share: float, rng: Random
) -> GiantTraffic:
    """The trace's requests and giants at random among them: a constant rate of tokens, a share of them giants'."""
    paced = scale_to_pace(ordinary, prompt_tokens_per_s=tokens_per_s * (1 - giant_share))
    giant_tokens = sum(each.num_prompt_tokens for each in paced) * giant_share / (1 - giant_share)
    giants = list(_giants(giant_tokens, span_s=paced[-1].arrival_s, rng=rng))
    return GiantTraffic(
        tuple(sorted((*map(_alone, paced), *giants), key=lambda each: each.arrival_s)),
        frozenset(each.arrival_s for each in giants),
    )


def _giants(total_tokens: float, *, span_s: float, rng: Random) -> Iterator[TraceRequest]:
    for number in count():
        if total_tokens <= 0:
            return
        for giant in _questions(number, span_s, rng):
            total_tokens -= giant.num_prompt_tokens
            yield giant


def _questions(document: int, span_s: float, rng: Random) -> Iterator[TraceRequest]:
    """About one document. What would come after the trace's end comes at its start instead."""
    least, most = map(log, DOCUMENT_TOKENS)
    num_blocks = round(exp(rng.uniform(least, most))) // BLOCK_SIZE_TOKENS
    blocks = tuple(
        BlockHash(xxhash.xxh3_64_intdigest(f"document {document}".encode(), block)) for block in range(num_blocks)
    )
    at_s = rng.uniform(0, span_s)
    for _ in range(rng.choices(NUM_QUESTIONS, NUM_QUESTIONS_WEIGHTS)[0]):
        yield TraceRequest(
            at_s % span_s,
            num_blocks * BLOCK_SIZE_TOKENS + rng.randint(*QUESTION_TOKENS),
            rng.randint(*ANSWER_TOKENS),
            blocks,
            session_id=f"document {document}",
        )
        at_s += rng.uniform(*PAUSE_S)


def _alone(request: TraceRequest) -> TraceRequest:
    """Open-loop: positions change, so that predecessors are not known any more."""
    return replace(request, predecessor=None)

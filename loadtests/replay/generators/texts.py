"""Texts of which only lengths and hashes of full blocks are known, and the requests that are made of them.

Texts that grow out of the same text share its full blocks, and nothing else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log
from random import Random

from loadtests.replay.trace import TraceRequest
from router import BlockHash

BLOCK_SIZE_TOKENS = 16
"""vLLM's default."""
ROUND_LIMITS_TOKENS = tuple(1 << exponent for exponent in range(6, 19))
"""What clients set `max_tokens` to when they do not know how long the answer will be."""


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens from the first of a prompt on."""

    num_tokens: int = 0
    block_hashes: tuple[BlockHash, ...] = ()
    """Hashes of its full blocks."""
    block_size: int = BLOCK_SIZE_TOKENS
    """Size of a block, in tokens."""

    def extended(self, num_tokens: int, rng: Random) -> "Text":
        """The text with tokens after it that no other text has."""
        total_tokens = self.num_tokens + num_tokens
        num_new_blocks = total_tokens // self.block_size - len(self.block_hashes)
        new_hashes = tuple(BlockHash(rng.getrandbits(64)) for _ in range(num_new_blocks))
        return Text(total_tokens, self.block_hashes + new_hashes, self.block_size)


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before all are in order."""

    arrival_s: float
    prompt: Text
    answered: Text
    """The prompt with its answer."""
    max_output_tokens: int | None
    session_id: str = ""
    tenant: str = ""
    predecessor: "Draft | None" = None

    def as_request(self, predecessor: int | None) -> TraceRequest:
        """The request, with its predecessor's position."""
        return TraceRequest(
            self.arrival_s,
            self.prompt.num_tokens,
            self.answered.num_tokens - self.prompt.num_tokens,
            self.prompt.block_hashes,
            answer_hashes=self.answered.block_hashes[len(self.prompt.block_hashes) :],
            session_id=self.session_id,
            tenant=self.tenant,
            predecessor=predecessor,
            max_output_tokens=self.max_output_tokens,
        )


def in_order(drafts: Iterable[Draft]) -> tuple[TraceRequest, ...]:
    """The requests by arrival; no draft comes before the one that it continues."""
    ordered = sorted(drafts, key=lambda each: each.arrival_s)
    draft_to_position = {id(draft): position for position, draft in enumerate(ordered)}
    return tuple(
        draft.as_request(None if draft.predecessor is None else draft_to_position[id(draft.predecessor)])
        for draft in ordered
    )


def poisson_times(rng: Random, *, per_s: float, duration_s: float) -> Iterator[float]:
    """Arrivals from 0 on, in seconds; the first one comes at once."""
    time_s = 0.0
    while time_s < duration_s:
        yield time_s
        time_s += rng.expovariate(per_s)


def lognormal_tokens(rng: Random, *, median_tokens: float, sigma: float) -> int:
    """A length, at least one token."""
    return max(1, round(rng.lognormvariate(log(median_tokens), sigma)))


def round_limit(num_output_tokens: int, rng: Random, *, share: float) -> int | None:
    """A client's `max_tokens` for such an answer: a share of clients set one, to one of the next two round numbers."""
    if rng.random() >= share:
        return None
    longer = [limit for limit in ROUND_LIMITS_TOKENS if limit >= num_output_tokens]
    return rng.choice(longer[:2])

"""Short and long prompts, mixed, at random times. Pure: a seed decides all."""

from dataclasses import dataclass
from random import Random

SHORT_TOKENS = (100, 500)
LONG_TOKENS = (2_000, 8_000)
LONG_SHARE = 0.2
DOCUMENT_TOKENS = 2_000
DOCUMENT_SHARE = 0.3
"""Share of the long prompts that begin with one of a few documents."""
NUM_DOCUMENTS = 3
ANSWER_TOKENS = (4, 32)
TOKEN_IDS = (300, 3_500)
"""Ordinary ones of the demo model."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A prompt, and when it is sent."""

    at_s: float
    token_ids: tuple[int, ...]
    new_tokens: int
    """Tokens that no prompt before it began with."""
    answer_tokens: int


def make_traffic(*, num_prompts: int, tokens_per_s: float, seed: int) -> list[Ask]:
    """Prompts that come independently of each other, and bring new tokens at a mean rate."""
    rng = Random(f"waiting order {seed}")
    documents = [_tokens(rng, DOCUMENT_TOKENS) for _ in range(NUM_DOCUMENTS)]
    seen: set[int] = set()
    prompts: list[tuple[tuple[int, ...], int]] = []
    for _ in range(num_prompts):
        own = _tokens(rng, rng.randint(*(LONG_TOKENS if rng.random() < LONG_SHARE else SHORT_TOKENS)))
        number = rng.randrange(NUM_DOCUMENTS)
        if len(own) <= DOCUMENT_TOKENS or rng.random() >= DOCUMENT_SHARE:
            prompts.append((own, len(own)))
        else:
            num_known = DOCUMENT_TOKENS if number in seen else 0
            prompts.append((documents[number] + own[DOCUMENT_TOKENS:], len(own) - num_known))
            seen.add(number)
    seconds = sum(new_tokens for _, new_tokens in prompts) / tokens_per_s
    times_s = sorted(rng.uniform(0, seconds) for _ in prompts)
    return [
        Ask(at_s, token_ids, new_tokens, rng.randint(*ANSWER_TOKENS))
        for at_s, (token_ids, new_tokens) in zip(times_s, prompts, strict=True)
    ]


def _tokens(rng: Random, num_tokens: int) -> tuple[int, ...]:
    return tuple(rng.randint(*TOKEN_IDS) for _ in range(num_tokens))

"""Prompts of seeded words: no external text, the same for the same seed, some with a prefix in common."""

from collections.abc import Sequence
from random import Random

NUM_WORDS = 600
CONSONANTS = "bdfgklmnprstvz"
VOWELS = "aeiou"


class Prompts:
    """Words of no language, drawn by a seeded generator.

    Args:
        rng: the only source of chance.
        shared_prefix_words: the lengths of the prefixes that prompts share.
        shared: the share of prompts that begin with one of them.

    """

    def __init__(self, rng: Random, *, shared_prefix_words: Sequence[int], shared: float) -> None:
        self._rng = rng
        self._words = [
            "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(1, 3)))
            for _ in range(NUM_WORDS)
        ]
        self._prefixes = [self.text(length) for length in shared_prefix_words]
        self._shared = shared

    def text(self, num_words: int) -> str:
        """That many words."""
        return " ".join(self._rng.choices(self._words, k=num_words))

    def prompt(self, *, min_words: int, max_words: int) -> str:
        """Words of its own, after a shared prefix or none."""
        own = self.text(self._rng.randint(min_words, max_words))
        if self._prefixes and self._rng.random() < self._shared:
            return f"{self._rng.choice(self._prefixes)} {own}"
        return own

    def token_ids(self, num_tokens: int) -> list[int]:
        """A prompt of exactly that many tokens, like no other."""
        return self._rng.choices(TOKEN_IDS, k=num_tokens)


TOKEN_IDS = range(500, 3000)
"""Ordinary tokens in every vocabulary in use: neither special, nor single bytes."""

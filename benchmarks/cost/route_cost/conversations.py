"""Chat bodies of about a wanted number of tokens, of sentences of the demo's own texts."""

import re
from collections.abc import Iterator
from itertools import count
from random import Random

import orjson

from serve_app.demo.model import DEFAULT_CORPUS, texts_of

TOKENS_PER_MESSAGE = 512
TOKENS_PER_WORD = 1.28
"""About what the demo's tokenizer makes of a word; the table shows what the router counted."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
FORMAL = re.compile(r"[{}<>|\\/_]")
"""Found in what is no prose: lists of tools, and their results."""
NUM_CONVERSATIONS = 32
"""Conversations that return in turn."""


class Conversations:
    """Seeded: the same bodies for the same seed.

    Args:
        model: as the body names it.
        seed: different ones give different texts.

    """

    def __init__(self, model: str, *, seed: int) -> None:
        self._model = model
        self._rng = Random(seed)
        sentences = (
            sentence for path in DEFAULT_CORPUS for text in texts_of(path) for sentence in SENTENCE_END.split(text)
        )
        self._sentences = [sentence.split() for sentence in sentences if not FORMAL.search(sentence)]

    def returning(self, num_tokens: int) -> Iterator[bytes]:
        """An endless series of next turns of a few conversations, which begin as they did before."""
        prefixes = [self._prefix(num_tokens) for _ in range(NUM_CONVERSATIONS)]
        for turn in count():
            yield prefixes[turn % NUM_CONVERSATIONS] + self._next_turn()

    def cold(self, num_tokens: int, num: int) -> list[bytes]:
        """Bodies of which no two begin alike."""
        return [self._prefix(num_tokens) + self._next_turn() for _ in range(num)]

    def _prefix(self, num_tokens: int) -> bytes:
        num_messages = max(1, num_tokens // TOKENS_PER_MESSAGE) | 1  # the user's is the last one
        num_words = round(num_tokens / num_messages / TOKENS_PER_WORD)
        messages = [self._message(number, num_words) for number in range(num_messages)]
        return orjson.dumps({"model": self._model, "max_tokens": 8, "messages": messages}).removesuffix(b"]}")

    def _next_turn(self) -> bytes:
        return b"," + orjson.dumps([self._message(1, 8), self._message(2, 16)])[1:-1] + b"]}"

    def _message(self, number: int, num_words: int) -> dict[str, str]:
        words: list[str] = []
        while len(words) < num_words:
            words += self._rng.choice(self._sentences)
        return {"role": ("user", "assistant")[number % 2], "content": " ".join(words[:num_words])}

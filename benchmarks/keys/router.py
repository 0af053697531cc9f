"""What the router reads in a body: its own prompt reader, in this process, and one without anything that is fast."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.keys.bodies import Question
from serve_app.prompt.body import UnreadableError, parse_body

if TYPE_CHECKING:
    from serve_app.prompt.vllm_reader import PromptReader

Ids = tuple[int, ...]


class Pass(StrEnum):
    """Each body is read in three ways."""

    NEW = "new"
    """The way routers read it, with a memo of chats that began empty and learned from the bodies before."""
    AGAIN = "again"
    """The same reader again, once it has seen all bodies."""
    PLAIN = "plain"
    """Hugging Face's tokenizer, and no memo."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read in one body, once."""

    ids: Ids | None
    """Token ids; None where the router has no key for it."""
    is_tokenized_fast: bool = False
    """Whether fastokens made them."""
    is_rendered_fast: bool = False
    """Whether vLLM's renderer was not needed."""


class Reader:
    """The router's prompt reader, and which of its short ways it took for each body.

    Args:
        llm: the settings' part of that name.

    """

    def __init__(self, llm: dict[str, Any]) -> None:
        from serve_app.prompt.vllm_reader import (
            PromptReader,
        )  # Ray decides how to join a cluster when it is first imported

        self._fast = PromptReader(llm)
        self._plain = PromptReader(llm, tokenizer="huggingface", max_memo_bytes=0)

    @property
    def tokenizer(self) -> str:
        """Who tokenises for the router, after all that it has read."""
        return self._fast.tokenizer

    @property
    def is_exact(self) -> bool:
        """Whether the memo's own checks found nothing."""
        return self._fast.chats is None or self._fast.chats.is_exact

    async def read_all(self, questions: Sequence[Question]) -> AsyncIterator[tuple[Pass, int, Reading]]:
        """Each question in each way, with its place in the sequence."""
        for each, reader in (
            (Pass.NEW, self._fast),
            (Pass.AGAIN, self._fast),
            (Pass.PLAIN, self._plain),
        ):
            for place, question in enumerate(questions):
                yield each, place, await _read(reader, orjson.dumps(question.body))


async def _read(reader: "PromptReader", body: bytes) -> Reading:
    before = _counts(reader)
    try:
        prompt = await reader.read(parse_body(body))
    except UnreadableError:
        return Reading(None)
    texts, chats = (after - count for after, count in zip(_counts(reader), before, strict=True))
    return Reading(tuple(prompt.token_ids), is_tokenized_fast=bool(texts), is_rendered_fast=bool(chats))


def _counts(reader: "PromptReader") -> tuple[int, int]:
    """Texts that fastokens tokenised, and chats that the memo rendered, so far."""
    return reader.tokenizing.num_fast_texts, 0 if reader.chats is None else reader.chats.num_fast_chats

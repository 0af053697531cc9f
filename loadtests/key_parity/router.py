"""What the router reads in a body: its own prompt reader, in this process, with and without its memo."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson

from loadtests.key_parity.bodies import Question
from serve_app.request_body import UnreadableError, parse_body
from serve_app.settings import RouterSettings

if TYPE_CHECKING:
    from serve_app.prompt import PromptReader

Ids = tuple[int, ...]


class Pass(StrEnum):
    """Each body is read in three ways."""

    NEW = "new"
    """For the first time, with a memo that began empty and learned from the bodies before."""
    AGAIN = "again"
    """By the same reader, once it has seen all bodies."""
    WITHOUT = "without memo"


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one body, once."""

    ids: Ids | None
    """None where the router has no key for it."""
    known_tokens: int = 0
    """Of them, those that the memo had."""
    is_fast: bool = False
    """Whether vLLM's renderer was not needed."""


class Reader:
    """The router's prompt reader, and what its memo did for each body.

    Args:
        llm: the settings' part of that name.

    """

    def __init__(self, llm: dict[str, Any]) -> None:
        from serve_app.prompt import PromptReader  # Ray decides how to join a cluster when it is first imported

        max_memo_bytes = round(RouterSettings().token_memo_mib * 2**20)
        self._with_memo = PromptReader(llm, max_memo_bytes=max_memo_bytes)
        self._without = PromptReader(llm, max_memo_bytes=0)

    @property
    def has_memo(self) -> bool:
        """False for models whose texts cannot be cut."""
        return self._with_memo.memo is not None

    @property
    def is_exact(self) -> bool:
        """Whether the memo's own checks found nothing."""
        return self._with_memo.memo is None or bool(self._with_memo.memo.snapshot()["is_exact"])

    async def read_all(self, questions: Sequence[Question]) -> AsyncIterator[tuple[Pass, int, Reading]]:
        """Each question in each way, with its place in the sequence."""
        for each, reader in (
            (Pass.NEW, self._with_memo),
            (Pass.AGAIN, self._with_memo),
            (Pass.WITHOUT, self._without),
        ):
            for place, question in enumerate(questions):
                yield each, place, await _read(reader, orjson.dumps(question.body))


async def _read(reader: "PromptReader", body: bytes) -> Reading:
    before = _counts(reader)
    try:
        prompt = await reader.read(parse_body(body))
    except UnreadableError:
        return Reading(None)
    known, fast = (after - count for after, count in zip(_counts(reader), before, strict=True))
    ids = tuple(prompt.token_ids)
    return Reading(ids, min(known, len(ids)), bool(fast))  # what is truncated may have been known, too


def _counts(reader: "PromptReader") -> tuple[int, int]:
    """Tokens that the memo had, and chats that it rendered, so far."""
    return (0, 0) if reader.memo is None else (reader.memo.tokens.num_known_tokens, reader.memo.num_fast_chats)

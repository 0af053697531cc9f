"""A dialogue as a body of each API, plain or in one of the many ways that clients write it. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from benchmarks.keys import chat_bodies, completion_bodies, message_bodies, response_bodies
from benchmarks.keys.texts import Dialogue, Source

Body = dict[str, Any]
Write = Callable[[Dialogue], Body | None]
"""A way to write a dialogue; it gives None where the dialogue has nothing that could be written so."""


class Endpoint(StrEnum):
    """An endpoint of the HTTP API; the value is the path."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"


@dataclass(frozen=True, slots=True)
class Question:
    """One body, the same for the router and for the replica."""

    source: Source
    number: int
    endpoint: Endpoint
    variation: str
    body: Body


ENDPOINT_TO_VARIATIONS: dict[Endpoint, dict[str, Write]] = {
    Endpoint.CHAT: chat_bodies.VARIATIONS,
    Endpoint.COMPLETIONS: completion_bodies.VARIATIONS,
    Endpoint.RESPONSES: response_bodies.VARIATIONS,
    Endpoint.MESSAGES: message_bodies.VARIATIONS,
}
"""The first of each is the plain way."""


def questions(dialogues: Sequence[Dialogue], model: str) -> Iterator[Question]:
    """Each dialogue on each endpoint: every second one plain, the others in all variations, one after the other."""
    for index, dialogue in enumerate(dialogues):
        for endpoint, variations in ENDPOINT_TO_VARIATIONS.items():
            name, body = _write(dialogue, index, variations)
            yield Question(dialogue.source, dialogue.number, endpoint, name, {"model": model, **body})


def _write(dialogue: Dialogue, index: int, variations: dict[str, Write]) -> tuple[str, Body]:
    names = list(variations)
    first = 0 if index % 2 == 0 else 1 + index // 2 % (len(names) - 1)
    for name in (*names[first:], *names):
        body = variations[name](dialogue)
        if body is not None:
            return name, body
    raise AssertionError("every dialogue can be written in the plain way")

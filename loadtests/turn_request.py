"""A session's turn as the chat request that a client sends."""

import orjson

from loadtests.exchange import JSON_HEADERS, ClientRequest
from loadtests.request_mix import CHAT
from loadtests.workloads import Session


def turn_request(
    session: Session, number: int, *, model: str, headers: tuple[tuple[str, str], ...] = JSON_HEADERS
) -> ClientRequest:
    """The turn of that number, for a model by its name for clients."""
    content = orjson.dumps({"model": model, **session.turns[number].body})
    return ClientRequest(f"{session.session_id}-{number}", session.kind, CHAT, content, headers)

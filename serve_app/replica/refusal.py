"""Answers of a replica's own, in the words of the API that is called."""

from http import HTTPStatus

import orjson
from starlette.types import Message, Receive, Scope, Send

from serve_app.messages.errors import ANTHROPIC_PATH, error

EVENT_STREAM = b"text/event-stream"
POLICY_VIOLATION = 1008
"""The code with which a WebSocket is closed to whom it is not for."""


async def refuse(scope: Scope, send: Send, status: HTTPStatus, message: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer with an error, and these headers."""
    content = orjson.dumps(error(scope["path"], status, message))
    lengths = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status.value, "headers": [*lengths, *headers]})
    await send({"type": "http.response.body", "body": content})


async def refuse_web_socket(receive: Receive, send: Send) -> None:
    """Close a WebSocket before it is open."""
    await receive()  # its opening
    await send({"type": "websocket.close", "code": POLICY_VIOLATION})


def is_event_stream(start: Message) -> bool:
    """Whether an answer that starts like this is a stream of events."""
    return any(name == b"content-type" and value.startswith(EVENT_STREAM) for name, value in start["headers"])


def error_event(path: str, status: HTTPStatus, message: str) -> bytes:
    """The last event of a stream that ends with an error, as the API of this path writes it."""
    content = orjson.dumps(error(path, status, message))
    return b"event: error\ndata: %s\n\n" % content if ANTHROPIC_PATH in path else b"data: %s\n\n" % content

"""Short error messages: vLLM repeats in many of them all that the client sent."""

from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ERRORS = 400
"""The lowest status of an error."""
MAX_ANSWER_BYTES = 8192
"""An answer of at most this length stays as it is."""
MAX_TEXT_CHARS = 4096
"""Length to which each text in a longer answer is cut."""


class BriefErrors:
    """ASGI middleware around vLLM's app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, _BriefAnswer(send).send if scope["type"] == "http" else send)


class _BriefAnswer:
    """The answer to one request; the start of an error waits until all of it is known."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._parts: list[bytes] = []

    async def send(self, message: Message) -> None:
        """Pass on one part, or keep it."""
        if message["type"] == "http.response.start" and message["status"] >= ERRORS:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._send_briefly(self._start, b"".join(self._parts))

    async def _send_briefly(self, start: Message, content: bytes) -> None:
        if len(content) > MAX_ANSWER_BYTES:
            content = _shortened(content)
            headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
            start["headers"] = [*headers, (b"content-length", str(len(content)).encode())]
        await self._send(start)
        await self._send({"type": "http.response.body", "body": content})


def _shortened(content: bytes) -> bytes:
    """An error's content, which is JSON or a text, with short texts."""
    try:
        return orjson.dumps(_with_short_texts(orjson.loads(content)))
    except orjson.JSONDecodeError:
        return content[:MAX_TEXT_CHARS]


def _with_short_texts(value: Any) -> Any:  # noqa: ANN401  JSON
    if isinstance(value, dict):
        return {name: _with_short_texts(part) for name, part in value.items()}
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        return f"{value[:MAX_TEXT_CHARS]} ..."
    return value

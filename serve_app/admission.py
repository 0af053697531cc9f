"""Requests that a replica turns away: too large, too many, or an engine that died. In the words of the API called."""

import math
from http import HTTPStatus
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.ledger import Ledger, current_request_id

ANTHROPIC_PATH = "/v1/messages"
LIGHT_PATHS = ("/count_tokens", "/tokenize", "/detokenize", "/render")
"""POSTs that never reach the engine."""
MAX_RETRY_AFTER_S = 60
SERVER_ERRORS = HTTPStatus.INTERNAL_SERVER_ERROR
"""Statuses from here on."""
STATUS_TO_ANTHROPIC_TYPE = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "api_error",
}


class Admission:
    """ASGI middleware around vLLM's app.

    Args:
        app: vLLM's.
        ledger: knows what is waiting here.
        max_waiting_requests: so many may wait for their first token; more are answered 429.
        max_waiting_tokens: of their prompts, so much may be uncached; None for any. One request may wait in any case.
        max_body_bytes: a body said to be larger is answered 413, unread.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        ledger: Ledger,
        max_waiting_requests: int,
        max_waiting_tokens: int | None = None,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._ledger = ledger
        self._max_waiting_requests = max_waiting_requests
        self._max_waiting_tokens = max_waiting_tokens
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or turn it away."""
        if scope["type"] == "http" and (num_bytes := _body_bytes(scope)) > self._max_body_bytes:
            message = f"The request's body has {num_bytes} bytes; up to {self._max_body_bytes} are read."
            await _refuse(scope, send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        elif not _asks_engine(scope):
            await self._app(scope, receive, send)
        elif not self._ledger.is_serving:
            # Nothing was done, so HAProxy sends the request to another replica (`retry-on` in environment.py).
            self._ledger.passed_on(current_request_id.get())
            await _refuse(scope, send, HTTPStatus.SERVICE_UNAVAILABLE, "The engine of this replica died.")
        elif (enough := self._enough_waiting()) is not None:
            message = f"{enough} are waiting here already; try again later."
            retry_after = (b"retry-after", str(self._retry_after_s()).encode())
            await _refuse(scope, send, HTTPStatus.TOO_MANY_REQUESTS, message, retry_after)
        else:
            await self._app(scope, receive, self._sending_failures_elsewhere(send))

    def _enough_waiting(self) -> str | None:
        """What there is too much of, with the one that asks; None where there is room."""
        ledger = self._ledger
        if ledger.num_waiting > self._max_waiting_requests:
            return f"{self._max_waiting_requests} requests"
        most = self._max_waiting_tokens
        if most is not None and ledger.waiting_tokens > most and ledger.num_waiting > 1:
            return f"{most} prompt tokens"
        return None

    def _sending_failures_elsewhere(self, send: Send) -> Send:
        """An answer that had not begun when the engine died: 503, which HAProxy does not show the client."""

        async def send_or_retry(message: Message) -> None:
            is_failure = message["type"] == "http.response.start" and message["status"] >= SERVER_ERRORS
            if is_failure and not self._ledger.is_serving:
                message["status"] = HTTPStatus.SERVICE_UNAVAILABLE.value
                self._ledger.passed_on(current_request_id.get())
            await send(message)

        return send_or_retry

    def _retry_after_s(self) -> int:
        """By then, the queue of now will be served: it takes as long as the last one served had to wait."""
        return min(max(1, math.ceil(self._ledger.last_wait_s)), MAX_RETRY_AFTER_S)


def _asks_engine(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and not scope["path"].endswith(LIGHT_PATHS)


def _body_bytes(scope: Scope) -> int:
    """As announced; 0 where a client sends without saying how much."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(value) if value.isdigit() else 0


async def _refuse(scope: Scope, send: Send, status: HTTPStatus, message: str, *headers: tuple[bytes, bytes]) -> None:
    content = orjson.dumps(_error(scope, status, message))
    lengths = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status.value, "headers": [*lengths, *headers]})
    await send({"type": "http.response.body", "body": content})


def _error(scope: Scope, status: HTTPStatus, message: str) -> dict[str, Any]:
    """As the Anthropic API writes it on its path, and elsewhere as vLLM does."""
    if scope["path"].endswith(ANTHROPIC_PATH):
        return {"type": "error", "error": {"type": STATUS_TO_ANTHROPIC_TYPE[status], "message": message}}
    return {"error": {"message": message, "type": status.phrase, "param": None, "code": status.value}}

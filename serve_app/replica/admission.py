"""Requests that a replica turns away, in the words of the API called: too large, too many, or a dead engine."""

import math
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.replica.refusal import is_event_stream, refuse
from serve_app.replica.running_requests import RunningRequests, current_request_id

LIGHT_PATHS = ("/count_tokens", "/tokenize", "/detokenize", "/render")
"""POSTs that never reach the engine."""
MAX_RETRY_AFTER_S = 60
MAX_LENGTH_DIGITS = 18
"""Digits of a body's length that are read; one of more is too large by far, and Python refuses thousands of digits."""
SERVER_ERRORS = HTTPStatus.INTERNAL_SERVER_ERROR
"""The lowest status of a server error."""


class Admission:
    """ASGI middleware around vLLM's app.

    Args:
        app: vLLM's.
        running: the replica's running requests.
        max_waiting_requests: sequences that may wait for their first token at most; further requests are answered 429.
        max_waiting_tokens: uncached tokens of waiting prompts at most, None for any. One request may always wait.
        max_body_bytes: the largest body; a larger one is answered 413, and no more of it is read.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        running: RunningRequests,
        max_waiting_requests: int,
        max_waiting_tokens: int | None = None,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._running = running
        self._max_waiting_requests = max_waiting_requests
        self._max_waiting_tokens = max_waiting_tokens
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or turn it away."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, send, max_bytes=self._max_body_bytes)
        if (num_bytes := body.num_said_bytes) > self._max_body_bytes:
            await body.refuse(f"{num_bytes} bytes")
            return
        receive, send = body.receive, body.send
        if not _asks_engine(scope):
            await self._app(scope, receive, send)
        elif not self._running.is_serving:
            await _send_elsewhere(scope, send, self._running)
        elif (limit := self._limit_reached()) is not None:
            message = f"No more than {limit} may wait here; try again later."
            retry_after = (b"retry-after", str(self._retry_after_s()).encode())
            self._running.refused(current_request_id.get())
            await refuse(scope, send, HTTPStatus.TOO_MANY_REQUESTS, message, retry_after)
        else:
            await self._app(scope, receive, _AdmittedAnswer(scope, send, self._running).send)

    def _limit_reached(self) -> str | None:
        """What there is too much of, with the request that asks; None where there is room."""
        running = self._running
        if running.num_waiting > self._max_waiting_requests:
            return f"{self._max_waiting_requests} sequences"
        most = self._max_waiting_tokens
        if most is not None and running.waiting_tokens > most and running.num_waiting_requests > 1:
            return f"{most} prompt tokens"
        return None

    def _retry_after_s(self) -> int:
        """Seconds until the present queue is served: as long as the last sequence served had to wait."""
        return min(max(1, math.ceil(self._running.last_wait_s)), MAX_RETRY_AFTER_S)


class _Body:
    """A request's body, which ends at a limit: what would be beyond it is refused in place of an answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, max_bytes: int) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._is_answered = False
        self._is_refused = False

    @property
    def num_said_bytes(self) -> int:
        """The length by `content-length`; 0 where a client sends in chunks, without saying how much."""
        value = next((value for name, value in self._scope["headers"] if name == b"content-length"), b"0")
        return int(value[:MAX_LENGTH_DIGITS]) if value.isdigit() else 0

    async def refuse(self, size: str) -> None:
        """Answer that the body is too large, in the words of the API called."""
        self._is_refused = True
        message = f"The request's body has {size}; up to {self._max_bytes} are read."
        await refuse(self._scope, self._send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)

    async def receive(self) -> Message:
        """The next part; the client is as good as gone once there is too much."""
        message = await self._receive()
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes <= self._max_bytes:
            return message
        if not self._is_answered and not self._is_refused:
            await self.refuse(f"{self._num_bytes} bytes or more")
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass on a part of the app's answer, unless the body was refused."""
        if not self._is_refused:
            self._is_answered = True
            await self._send(message)


class _AdmittedAnswer:
    """vLLM's answer to one request. If the engine dies before anything of it was sent, another replica answers.

    vLLM sends a stream's headers before the engine has begun; here they wait for its first part.
    """

    def __init__(self, scope: Scope, send: Send, running: RunningRequests) -> None:
        self._scope = scope
        self._send = send
        self._running = running
        self._held: Message | None = None
        self._is_elsewhere = False

    async def send(self, message: Message) -> None:
        """Pass on one part, let it wait, or drop it."""
        if self._is_elsewhere:
            return
        if message["type"] == "http.response.start":
            if message["status"] >= SERVER_ERRORS and not self._running.is_serving:
                await self._send_elsewhere()
            elif is_event_stream(message):
                self._held = message
            else:
                await self._send(message)
        elif self._held is None:
            await self._send(message)
        elif self._running.is_serving:
            start, self._held = self._held, None
            await self._send(start)
            await self._send(message)
        else:
            await self._send_elsewhere()

    async def _send_elsewhere(self) -> None:
        self._is_elsewhere = True
        await _send_elsewhere(self._scope, self._send, self._running)


def _asks_engine(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] == "POST" and not scope["path"].endswith(LIGHT_PATHS)


async def _send_elsewhere(scope: Scope, send: Send, running: RunningRequests) -> None:
    """A 503 that the client does not see: HAProxy asks another replica (`retry-on` in environment.py)."""
    running.passed_on(current_request_id.get())
    await refuse(scope, send, HTTPStatus.SERVICE_UNAVAILABLE, "The engine of this replica died.")

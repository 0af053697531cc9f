"""Who asks, by the key that the client itself sent: whoever has none is answered 401, before the body is read.

A replica looks for itself, and believes no header of HAProxy's or a router's, as its port may be reached past them.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.messages.errors import KEYS_UNKNOWN, NO_KEY
from serve_app.replica.ownership import Owner, working_for
from serve_app.replica.refusal import error_event, is_event_stream, refuse, refuse_web_socket
from serve_app.tenants.credentials import presented_key
from serve_app.tenants.directory import Caller
from serve_app.tenants.live_directory import LiveDirectory

CALLER = "warmroute.caller"
"""The caller's place in the scope of a request."""
REVOKED = "The API key is not valid any more."
CHALLENGE = (b"www-authenticate", b"Bearer")


class Authentication:
    """ASGI middleware around all that tells, or costs, anything.

    Args:
        app: what only callers with a key reach.
        keys: the key file as it is now.
        clock: Unix time in seconds.

    """

    def __init__(self, app: ASGIApp, *, keys: LiveDirectory, clock: Callable[[], float] = time.time) -> None:
        self._app = app
        self._keys = keys
        self._clock = clock
        self._answers: set[_Answer] = set()
        keys.listen(self.end_revoked)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["method"] == "OPTIONS"):
            await self._app(scope, receive, send)  # a browser asks what is allowed, before it sends a key
            return
        caller = self._caller(scope)
        if caller is None:
            await self._refuse(scope, receive, send)
            return
        scope[CALLER] = caller
        with working_for(Owner(caller.tenant, caller.salt)):
            if scope["type"] == "http":
                await self._serve(caller, scope, receive, send)
            else:
                await self._app(scope, receive, send)

    def end_revoked(self) -> None:
        """End the answers to keys that are not valid any more; called when the file has changed, or time has passed."""
        directory, now_s = self._keys.directory, self._clock()
        for answer in self._answers:
            if not directory.is_live(answer.key_id, now_s=now_s):
                answer.end()

    def _caller(self, scope: Scope) -> Caller | None:
        key = presented_key(scope["headers"])
        return None if key is None else self._keys.directory.find(key, now_s=self._clock())

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await refuse_web_socket(receive, send)
        elif self._keys.fault is not None:
            await refuse(scope, send, HTTPStatus.SERVICE_UNAVAILABLE, KEYS_UNKNOWN)
        else:
            await refuse(scope, send, HTTPStatus.UNAUTHORIZED, NO_KEY, CHALLENGE)

    async def _serve(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(caller.key_id, scope, send)
        self._answers.add(answer)
        try:
            await answer.serve(self._app, receive)
        finally:
            self._answers.discard(answer)


class _Answer:
    """An answer that is under way in the present task, and may have to end before its time."""

    def __init__(self, key_id: str, scope: Scope, send: Send) -> None:
        self.key_id = key_id
        self._scope = scope
        self._send = send
        self._task = asyncio.current_task()
        self._is_revoked = False
        self._has_begun = False
        self._is_event_stream = False
        self._is_over = False

    def end(self) -> None:
        """The caller's key is not valid any more."""
        if self._task is not None and not self._is_revoked:
            self._is_revoked = True
            self._task.cancel()

    async def serve(self, app: ASGIApp, receive: Receive) -> None:
        """Let the app answer, until it has or the key is revoked. To the app, that is as if its client had left."""
        try:
            await app(self._scope, receive, self._pass)
        except asyncio.CancelledError:
            if not self._is_revoked or self._task is None or self._task.uncancel():
                raise
            await self._break_off()

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun, self._is_event_stream = True, is_event_stream(message)
        else:
            self._is_over = not message.get("more_body", False)
        await self._send(message)

    async def _break_off(self) -> None:
        if self._is_over:
            return
        if not self._has_begun:
            await refuse(self._scope, self._send, HTTPStatus.UNAUTHORIZED, REVOKED, CHALLENGE)
            return
        last = error_event(self._scope["path"], HTTPStatus.UNAUTHORIZED, REVOKED) if self._is_event_stream else b""
        await self._send({"type": "http.response.body", "body": last})

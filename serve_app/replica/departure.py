"""A client that leaves takes its request out of the engine.

Serve cancels a request whose client has gone, which is not enough: vLLM runs a request's handler as a task of its own,
and ends it when the client is *told* to be gone (`with_cancellation`), not when what waits for it is cancelled. So the
answer would be computed to its end for no one, and counted nowhere. Here a request that is cancelled is told that its
client has left, and is over when it has ended by itself.
"""

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENDING_S = 10.0
"""Seconds after which an app that does not end when its client is gone is cancelled as well."""
GONE: Message = {"type": "http.disconnect"}


class Departure:
    """ASGI middleware, outermost: what it wraps is charged for its work until that has ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = _Client(receive)
        serving = asyncio.ensure_future(self._app(scope, client.receive, send))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            client.has_left.set()
            await _end(serving)
            raise


class _Client:
    """What comes from the client, until it is said to have left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.has_left = asyncio.Event()

    async def receive(self) -> Message:
        """A part of the body, or the end of the connection."""
        receiving = asyncio.ensure_future(self._receive())
        leaving = asyncio.ensure_future(self.has_left.wait())
        try:
            await asyncio.wait((receiving, leaving), return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else GONE
        finally:
            receiving.cancel()
            leaving.cancel()


async def _end(serving: "asyncio.Future[None]") -> None:
    """Let the app end; what it says to its client being gone interests no one."""
    await asyncio.wait((serving,), timeout=ENDING_S)
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await serving

"""What a router is asked and told, answered before Serve's own handling of a request, which costs more than a decision.

Serve lets a process put ASGI middlewares before everything else it does with a request, named by an environment
variable (`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`); router processes have it set (`serve_app.control.environment`).
What this passes by is Serve's count of the router's requests, in place of which are the router's own metrics, its
queue, and three tasks for each request.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.edge.options import TOKEN_HEADER
from serve_app.ingress.text_headers import TextHeaders

PATH = "/internal/route"

RouteAnswer = Callable[[bytes, Headers], Awaitable[bytes]]
"""Makes the response's JSON from a request's body and headers."""
HandleMessage = Callable[[bytes], Awaitable[Any]]
"""Answers a message."""

FORBIDDEN = b'{"error": "Only the cluster itself is answered here; clients use HAProxy\'s port."}'


@dataclass(frozen=True, slots=True)
class _Router:
    answer: RouteAnswer
    path_to_handler: Mapping[str, HandleMessage]
    token: bytes
    is_edge: bool

    def knows(self, scope: Scope) -> bool:
        """Whether HAProxy asks, or one of the cluster tells."""
        if scope["path"] == PATH and not self.is_edge:
            return True
        offered = next((value for name, value in scope["headers"] if name == TOKEN_HEADER.encode()), b"")
        return hmac.compare_digest(offered, self.token)


_routers: list[_Router] = []
"""The router of this process, once there is one."""


def answer_with(
    answer: RouteAnswer, path_to_handler: Mapping[str, HandleMessage], *, token: str, is_edge: bool
) -> None:
    """Let this process's only router answer from now on.

    Args:
        answer: answers HAProxy's question.
        path_to_handler: what takes the messages of replicas and other routers, by path.
        token: the token that all of them must show.
        is_edge: whether HAProxy shows it; where it has only Ray's configuration, anyone's question is answered.

    """
    _routers[:] = [_Router(answer, path_to_handler, token.encode(), is_edge)]


def middlewares() -> Sequence[Middleware]:
    """Serve's hook; the last one is outermost."""
    return [Middleware(RouteEndpoint), Middleware(TextHeaders)]


class RouteEndpoint:
    """A POST to a path of the router's is its own; everything else, such as Serve's health checks, is the app's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _routers:
            await self._app(scope, receive, send)
            return
        router, path = _routers[0], scope["path"]
        if path != PATH and path not in router.path_to_handler:
            await self._app(scope, receive, send)
            return
        if not router.knows(scope):
            await _respond(send, HTTPStatus.FORBIDDEN, FORBIDDEN)
            return
        body = await _read(receive)
        if body is None:
            return
        if path != PATH:
            await _respond(send, HTTPStatus.OK, orjson.dumps(await router.path_to_handler[path](body)))
            return
        content = await _unless_left(router.answer(body, Headers(scope=scope)), receive)
        if content is not None:
            await _respond(send, HTTPStatus.OK, content)


async def _unless_left(answer: Awaitable[bytes], receive: Receive) -> bytes | None:
    """The answer; None once no one waits for it, and then it is not worked on any more."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(receive())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        answering.cancel()
        leaving.cancel()


async def _respond(send: Send, status: HTTPStatus, content: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if the client leaves before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)

"""HAProxy's question, answered before Serve's own handling of a request, which costs more than a decision does.

Serve lets a process put ASGI middlewares before everything else it does with a request, named by an environment
variable (`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`); router processes have it set (`serve_app.environment`). What
this passes by is Serve's count of the router's requests, in place of which are the router's own metrics, its queue, and
three tasks for each request.
"""

from collections.abc import Awaitable, Callable, Sequence

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/internal/route"

Answer = Callable[[bytes, Headers], Awaitable[bytes]]
"""From a request's body and headers to the response's JSON."""

_answers: list[Answer] = []
"""This process's router, once it is there."""


def answer_with(answer: Answer) -> None:
    """From now on, by this process's only router."""
    _answers[:] = [answer]


def middlewares() -> Sequence[Middleware]:
    """Serve's hook."""
    return [Middleware(RouteEndpoint)]


class RouteEndpoint:
    """A POST to `/internal/route` is the router's; everything else, such as Serve's health checks, is the app's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST" or not _answers:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        content = await _answers[0](body, Headers(scope=scope))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
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

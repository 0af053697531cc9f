"""HAProxy's question and the router's answer, as ASGI messages."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serve_app import route_endpoint
from serve_app.route_endpoint import PATH, RouteEndpoint, answer_with, middlewares


async def answer(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Says what it was asked."""
    return b"%d bytes, session %s" % (len(body), headers.get("X-Session-Id", "-").encode())


async def serves(request: Request) -> PlainTextResponse:
    """The app behind: Serve."""
    return PlainTextResponse(f"serve: {request.method} {request.url.path}")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    """Of a process whose router is there."""
    monkeypatch.setattr(route_endpoint, "_answers", [])
    answer_with(answer)
    return make_client()


def make_client() -> httpx.AsyncClient:
    """As Serve puts the middleware before its own app."""
    app: Any = Starlette(routes=[Route("/{path:path}", serves, methods=["GET", "POST"])])
    for middleware in middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router")


async def test_a_decision_is_the_routers(client: httpx.AsyncClient) -> None:
    """With the whole body, and headers by any case."""
    response = await client.post(PATH, content=b"x" * 100_000, headers={"x-session-id": "mine"})
    assert response.text == "100000 bytes, session mine"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("GET", "/-/healthz"), ("POST", "/internal/other")])
async def test_everything_else_is_serves(client: httpx.AsyncClient, method: str, path: str) -> None:
    """Health checks above all."""
    assert (await client.request(method, path)).text == f"serve: {method} {path}"


async def test_without_a_router_serve_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before the constructor is through."""
    monkeypatch.setattr(route_endpoint, "_answers", [])
    assert (await make_client().post(PATH)).text == f"serve: POST {PATH}"


async def test_a_body_in_pieces_is_read_whole_and_a_client_that_leaves_is_not_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """HAProxy gives up after its own timeout."""
    asked, sent = [], []

    async def note(body: bytes, _: Mapping[str, str]) -> bytes:
        asked.append(body)
        return b"{}"

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def ask(*messages: dict[str, Any]) -> None:
        rest = iter(messages)

        async def receive() -> Any:
            return next(rest)

        scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
        await RouteEndpoint(Starlette())(scope, receive, send)

    monkeypatch.setattr(route_endpoint, "_answers", [])
    answer_with(note)
    begun = {"type": "http.request", "body": b"ab", "more_body": True}
    await ask(begun, {"type": "http.request", "body": b"c", "more_body": False})
    await ask(begun, {"type": "http.disconnect"})
    assert asked == [b"abc"]
    assert sent == ["http.response.start", "http.response.body"]

"""HAProxy's question and the router's answer, as ASGI messages."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serve_app.edge.options import TOKEN_HEADER
from serve_app.ingress import endpoint as route_endpoint
from serve_app.ingress.endpoint import PATH, RouteEndpoint, answer_with, middlewares
from serve_app.messages.delivery import RECEIPTS_PATH

TOKEN = "haproxys"  # noqa: S105  of these tests


async def answer(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Says what it was asked."""
    return b"%d bytes, session %s" % (len(body), headers.get("X-Session-Id", "-").encode())


async def take(message: bytes) -> int:
    """Says how much it was told."""
    return len(message)


async def serves(request: Request) -> PlainTextResponse:
    """The app behind: Serve."""
    return PlainTextResponse(f"serve: {request.method} {request.url.path}")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> httpx.AsyncClient:
    """A client of a process whose router is there."""
    monkeypatch.setattr(route_endpoint, "_routers", [])
    answer_with(answer, {RECEIPTS_PATH: take}, token=TOKEN, is_edge=True)
    return make_client(token=TOKEN)


def make_client(*, token: str = "") -> httpx.AsyncClient:
    """A client that shows this token; Serve puts the middleware before its own app."""
    app: Any = Starlette(routes=[Route("/{path:path}", serves, methods=["GET", "POST"])])
    for middleware in middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    headers = {TOKEN_HEADER: token} if token else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://router", headers=headers)


async def test_a_decision_is_the_routers(client: httpx.AsyncClient) -> None:
    """With the whole body, and headers by any case."""
    response = await client.post(PATH, content=b"x" * 100_000, headers={"x-session-id": "mine"})
    assert response.text == "100000 bytes, session mine"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize("session", [b"\xff", b"a\x00", b"\xed\xa0\x80"])
async def test_a_session_whose_name_is_no_text_is_none(client: httpx.AsyncClient, session: bytes) -> None:
    """And the decision is made."""
    response = await client.post(PATH, content=b"x", headers=[(b"x-session-id", session)])
    assert (response.status_code, response.text) == (200, "1 bytes, session -")


async def test_what_it_is_told_is_answered_in_json(client: httpx.AsyncClient) -> None:
    """By the one who takes such messages."""
    response = await client.post(RECEIPTS_PATH, content=b"x" * 100_000)
    assert (response.status_code, response.json()) == (200, 100_000)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", PATH), ("GET", RECEIPTS_PATH), ("GET", "/-/healthz"), ("POST", "/internal/other")]
)
async def test_everything_else_is_serves(client: httpx.AsyncClient, method: str, path: str) -> None:
    """Health checks above all."""
    assert (await client.request(method, path)).text == f"serve: {method} {path}"


async def test_without_a_router_serve_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before the constructor is through."""
    monkeypatch.setattr(route_endpoint, "_routers", [])
    assert (await make_client().post(PATH)).text == f"serve: POST {PATH}"


@pytest.mark.parametrize("token", ["", "a guess", "haproxy", "h\xe4proxys"])
@pytest.mark.parametrize("path", [PATH, RECEIPTS_PATH])
async def test_only_the_cluster_is_answered(monkeypatch: pytest.MonkeyPatch, path: str, token: str) -> None:
    """Neither told where prompts are, nor able to book load."""
    monkeypatch.setattr(route_endpoint, "_routers", [])
    asked: list[bytes] = []

    async def note(body: bytes, _: Mapping[str, str]) -> bytes:
        asked.append(body)
        return b"{}"

    async def note_message(message: bytes) -> None:
        asked.append(message)

    answer_with(note, {RECEIPTS_PATH: note_message}, token=TOKEN, is_edge=True)
    client = make_client()
    response = await client.post(path, content=b"{}", headers={TOKEN_HEADER: token.encode("latin-1")})
    assert response.status_code == HTTPStatus.FORBIDDEN
    assert "HAProxy" in response.json()["error"]
    assert not asked


async def test_where_haproxy_has_rays_configuration_everybody_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it shows no token there. What tells a router something still must."""
    monkeypatch.setattr(route_endpoint, "_routers", [])
    answer_with(answer, {RECEIPTS_PATH: take}, token=TOKEN, is_edge=False)
    assert (await make_client().post(PATH)).status_code == HTTPStatus.OK
    assert (await make_client().post(RECEIPTS_PATH)).status_code == HTTPStatus.FORBIDDEN


class Asker:
    """HAProxy's side of one question."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = list(messages)
        self.has_left = asyncio.Event()
        self.sent: list[str] = []

    async def ask(self) -> None:
        """Until it is answered, or has left."""
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
        await RouteEndpoint(Starlette())(scope, self._receive, self._send)

    async def _receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message["type"])


BEGUN = {"type": "http.request", "body": b"ab", "more_body": True}
ENDED = {"type": "http.request", "body": b"c", "more_body": False}


async def test_a_body_in_pieces_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one whose end never comes is not answered."""
    asked: list[bytes] = []

    async def note(body: bytes, _: Mapping[str, str]) -> bytes:
        asked.append(body)
        return b"{}"

    monkeypatch.setattr(route_endpoint, "_routers", [])
    answer_with(note, {}, token=TOKEN, is_edge=False)
    whole, left = Asker(BEGUN, ENDED), Asker(BEGUN, {"type": "http.disconnect"})
    await whole.ask()
    await left.ask()
    assert asked == [b"abc"]
    assert whole.sent == ["http.response.start", "http.response.body"]
    assert not left.sent


async def test_what_no_one_waits_for_is_not_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """HAProxy gives up after its own time limit, and a busy router has others to answer."""
    begun, dropped = asyncio.Event(), asyncio.Event()

    async def slow(_body: bytes, _: Mapping[str, str]) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()
        return b"{}"

    monkeypatch.setattr(route_endpoint, "_routers", [])
    answer_with(slow, {}, token=TOKEN, is_edge=False)
    asker = Asker(BEGUN, ENDED)
    asking = asyncio.create_task(asker.ask())
    await begun.wait()
    asker.has_left.set()
    await asking
    async with asyncio.timeout(10):
        await dropped.wait()
    assert not asker.sent


async def test_a_router_that_fails_is_seen_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is Serve's to log; HAProxy sees the connection end."""

    async def failing(_body: bytes, _: Mapping[str, str]) -> bytes:
        raise RuntimeError("of ours")

    monkeypatch.setattr(route_endpoint, "_routers", [])
    answer_with(failing, {}, token=TOKEN, is_edge=False)
    with pytest.raises(RuntimeError, match="of ours"):
        await Asker(BEGUN, ENDED).ask()

"""Who may ask a replica: refused in the words of the API, before anything is read, and ended once a key is revoked."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.replica.allowed_models import AllowedModels
from serve_app.replica.authentication import CALLER, Authentication
from serve_app.replica.departure import Departure
from serve_app.replica.ownership import REPLICA, Owner, UnknownOwnerError, keep_tenants_apart, working_for
from serve_app.tenants.isolation import nested_salt
from serve_app.tenants.key_changes import make_key, revoke_key
from serve_app.tenants.key_file import KeyFile
from serve_app.tenants.live_directory import LiveDirectory
from tests.serve_app.tenants.files import NOW, SECRET, with_keys, written

TIMEOUT_S = 10


class Setting:
    """A replica with a key file, and what its app was asked."""

    def __init__(self, folder: Path) -> None:
        self.file, (self.key, self.other) = with_keys("acme", "globex")
        self.folder = folder
        self.keys = LiveDirectory(written(self.file, folder), "tenant")
        self.callers: list[Any] = []

    async def echo(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """vLLM's part, which notes who asks."""
        self.callers.append(scope.get(CALLER))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

    async def ask(self, path: str = "/v1/chat/completions", method: str = "POST", **headers: str) -> httpx.Response:
        """Send one request."""
        app = Authentication(self.echo, keys=self.keys)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
            return await client.request(
                method, path, headers={name.replace("_", "-"): v for name, v in headers.items()}
            )

    def change(self, file: KeyFile) -> None:
        """Write another key file, and let it be looked at."""
        written(file, self.folder)
        self.keys.read_if_changed()


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Two tenants with a key each."""
    monkeypatch.setenv(*next(iter(SECRET.items())))
    return Setting(tmp_path)


async def test_the_key_alone_says_whose_a_request_is(setting: Setting) -> None:
    """In either header; no other header changes it."""
    assert (await setting.ask(authorization=f"Bearer {setting.key}", x_tenant="globex")).text == "served"
    assert (await setting.ask("/v1/messages", x_api_key=setting.other, x_warmroute_tenant="acme")).text == "served"
    assert [caller.tenant for caller in setting.callers] == ["acme", "globex"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/health", "/metrics", "/anything"])
async def test_without_a_key_nothing_is_reached(setting: Setting, path: str, method: str) -> None:
    """On any path."""
    response = await setting.ask(path, method)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert setting.callers == []


async def test_a_refusal_is_in_the_words_of_the_api(setting: Setting) -> None:
    """OpenAI's code, by which its clients raise AuthenticationError, and Anthropic's type."""
    openai = (await setting.ask(authorization="Bearer wrong")).json()["error"]
    assert (openai["code"], openai["type"], openai["param"]) == ("invalid_api_key", "invalid_request_error", None)
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        anthropic = (await setting.ask(path, x_api_key="wrong")).json()
        assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "authentication_error")


async def test_a_browser_may_ask_what_is_allowed(setting: Setting) -> None:
    """It sends no key with that."""
    assert (await setting.ask(method="OPTIONS")).status_code == 200


async def test_a_damaged_file_closes(setting: Setting) -> None:
    """For keys that were valid, too."""
    (setting.folder / "keys.yaml").write_text("tenants: [")
    setting.keys.read_if_changed()
    assert (await setting.ask(authorization=f"Bearer {setting.key}")).status_code == 503
    assert setting.callers == []


async def test_a_web_socket_without_a_key_is_closed(setting: Setting) -> None:
    """Before it is opened."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": []}
    await Authentication(setting.echo, keys=setting.keys)(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


STREAM = (b"content-type", b"text/event-stream")


def slow(begun: asyncio.Event, ended: asyncio.Event, *, headers: list[tuple[bytes, bytes]] | None) -> ASGIApp:
    """vLLM's part of an answer that would last; it begins if it has headers, and ends when its client is gone."""

    async def serve(_scope: Scope, receive: Receive, send: Send) -> None:
        if headers is not None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    return serve


@pytest.mark.parametrize(
    ("path", "headers", "last"),
    [
        ("/v1/chat/completions", [STREAM], b'data: {"error":'),
        ("/v1/messages", [STREAM], b"event: error\ndata: {"),
        ("/v1/chat/completions", None, b'{"error":'),
    ],
)
async def test_a_revoked_key_ends_its_answers(
    setting: Setting, path: str, headers: list[tuple[bytes, bytes]] | None, last: bytes
) -> None:
    """The engine's work as well, and no other key's."""
    begun, ended = asyncio.Event(), asyncio.Event()
    other_begun, other_ended = asyncio.Event(), asyncio.Event()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive_for_ever() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    def scope(key: str) -> dict[str, Any]:
        return {"type": "http", "method": "POST", "path": path, "headers": [(b"x-api-key", key.encode())]}

    app = Authentication(Departure(slow(begun, ended, headers=headers)), keys=setting.keys)
    other = Authentication(Departure(slow(other_begun, other_ended, headers=headers)), keys=setting.keys)
    async with asyncio.timeout(TIMEOUT_S):
        serving = asyncio.create_task(app(scope(setting.key), receive_for_ever, send))
        going_on = asyncio.create_task(other(scope(setting.other), receive_for_ever, no_one_listens))
        await begun.wait()
        await other_begun.wait()
        setting.change(revoke_key(setting.file, setting.key.split("-")[1])[1])
        app.end_revoked()
        other.end_revoked()
        await serving
        assert ended.is_set()
        assert not other_ended.is_set()
        going_on.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going_on
    assert sent[-1]["body"].startswith(last)
    assert not sent[-1].get("more_body", False)
    assert sent[0]["status"] == (401 if headers is None else 200)


async def no_one_listens(_message: Message) -> None:
    """Of an answer that is not looked at."""


class Engine:
    """vLLM's part: takes requests."""

    def __init__(self) -> None:
        self.salts: list[str | None] = []

    async def _add_request(self, request: Any, *_: Any) -> None:
        self.salts.append(request.cache_salt)


ACME = Owner("acme", "tenant")
GLOBEX = Owner("globex", "")


async def test_every_prompt_has_the_salt_of_its_owner() -> None:
    """Around the client's own; the replica's own prompts have theirs already; no one's prompt is refused."""
    engine = Engine()
    keep_tenants_apart(FastAPI(), engine)
    send: Callable[..., Any] = engine._add_request
    with working_for(ACME):
        await asyncio.create_task(send(SimpleNamespace(cache_salt="client")))
        await send(SimpleNamespace(cache_salt=None))
    with working_for(REPLICA):
        await send(SimpleNamespace(cache_salt="whole"))
        await send(SimpleNamespace(cache_salt=None))
    assert engine.salts == [nested_salt("tenant", "client"), "tenant", "whole", None]
    with pytest.raises(UnknownOwnerError):
        await send(SimpleNamespace(cache_salt="client"))
    assert len(engine.salts) == 4


def test_a_stored_response_is_its_owners() -> None:
    """Whoever else knows its id."""
    app = FastAPI()
    app.state.openai_serving_responses = SimpleNamespace(response_store={})
    keep_tenants_apart(app, Engine())
    store = app.state.openai_serving_responses.response_store
    with working_for(ACME):
        store["resp_1"] = "answer"
        assert store.get("resp_1") == "answer"
    with working_for(GLOBEX):
        assert store.get("resp_1") is None
    with pytest.raises(UnknownOwnerError):
        store.get("resp_1")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ('{"model": "demo"}', 200),
        ('{"messages": []}', 200),
        ("", 200),
        ('{"model": "demo:adapter"}', 403),
        ('{"model": "other"}', 403),
        ("model=demo", 403),
    ],
)
async def test_a_key_is_for_its_models(setting: Setting, content: str, status: int) -> None:
    """By the body, whose parts vLLM gets all the same; one without a model asks for the served one."""
    made = make_key(KeyFile(tenants={}), "acme", now=NOW, models=["demo"])
    setting.change(made.file)
    received: list[bytes] = []

    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        received.append((await receive())["body"])
        await setting.echo(scope, receive, send)

    app = Authentication(AllowedModels(read, model="demo"), keys=setting.keys)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        response = await client.post("/v1/messages", content=content, headers={"x-api-key": made.key.text})
    assert response.status_code == status
    assert received == ([content.encode()] if status == 200 else [])
    assert status == 200 or response.json()["error"]["type"] == "permission_error"

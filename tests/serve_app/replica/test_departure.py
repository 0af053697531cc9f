"""A request whose client leaves is told so, and is over when it has ended."""

import asyncio

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.replica.departure import Departure

SCOPE: Scope = {"type": "http", "path": "/"}
TIMEOUT_S = 10.0


class Client:
    """Sends a body in two parts, then nothing, and keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self._parts: list[Message] = [
            {"type": "http.request", "body": b"one", "more_body": True},
            {"type": "http.request", "body": b"two", "more_body": False},
        ]

    async def receive(self) -> Message:
        """The next part."""
        if not self._parts:
            await asyncio.Event().wait()
        return self._parts.pop(0)

    async def send(self, message: Message) -> None:
        """Send a part to the client."""
        self.got.append(message)


async def read(receive: Receive) -> bytes:
    """The whole body."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


def begin(app: ASGIApp, client: Client) -> "asyncio.Task[None]":
    """A request that is being served."""
    return asyncio.create_task(Departure(app)(SCOPE, client.receive, client.send))  # type: ignore[arg-type]


async def test_who_stays_is_served() -> None:
    """With all that it sent."""

    async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": await read(receive)})

    client = Client()
    await begin(echo, client)
    assert client.got == [{"type": "http.response.body", "body": b"onetwo"}]


async def test_a_fault_of_the_app_is_the_apps() -> None:
    """As without this."""

    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("of the app")

    with pytest.raises(RuntimeError, match="of the app"):
        await begin(fail, Client())


@pytest.mark.parametrize("fails", [False, True])
async def test_a_request_is_not_over_before_its_app_has_ended(*, fails: bool) -> None:
    """The app hears that the client has gone, and takes its time; no one minds what it says then."""
    listening, is_told, may_end, heard = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

    async def work(_scope: Scope, receive: Receive, _send: Send) -> None:
        await read(receive)
        listening.set()
        heard.append(await receive())
        is_told.set()
        await may_end.wait()
        heard.append({"type": "ended"})
        if fails:
            raise RuntimeError("no one is there")

    request = begin(work, Client())
    await asyncio.wait_for(listening.wait(), TIMEOUT_S)
    request.cancel()
    await asyncio.wait_for(is_told.wait(), TIMEOUT_S)
    assert heard == [{"type": "http.disconnect"}]
    assert not request.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(request, TIMEOUT_S)
    assert heard[-1] == {"type": "ended"}


async def test_an_app_that_does_not_listen_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is over."""
    monkeypatch.setattr("serve_app.replica.departure.ENDING_S", 0.0)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(_scope: Scope, _receive: Receive, _send: Send) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    request = begin(work, Client())
    await asyncio.wait_for(begun.wait(), TIMEOUT_S)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(request, TIMEOUT_S)
    assert ended.is_set()


async def test_who_leaves_before_its_body_is_read_is_gone_as_well() -> None:
    """What it is told next is the end."""
    begun = asyncio.Event()
    heard = []

    async def work(_scope: Scope, receive: Receive, _send: Send) -> None:
        begun.set()
        heard.append((await receive())["type"])

    class Silent(Client):
        async def receive(self) -> Message:
            await asyncio.Event().wait()
            raise AssertionError

    request = begin(work, Silent())
    await asyncio.wait_for(begun.wait(), TIMEOUT_S)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(request, TIMEOUT_S)
    assert heard == ["http.disconnect"]

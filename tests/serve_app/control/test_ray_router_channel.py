"""Messages to all routers, over real connections to made-up ones."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from serve_app.edge.options import TOKEN_HEADER, edge_token
from serve_app.messages import batches
from serve_app.messages.delivery import DeliveryError

if TYPE_CHECKING:
    from serve_app.control.ray_router_channel import RouterChannel

PATH = "/internal/receipts"
Targets = Callable[[Any], None]


class Server:
    """A router's HTTP port."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.connections: set[Any] = set()
        self.status = 200
        app = web.Application()
        app.router.add_post(PATH, self._take)
        self._runner = web.AppRunner(app)

    async def start(self) -> None:
        """On a port that is free."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port: int = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Nobody listens there any more."""
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        assert request.headers[TOKEN_HEADER] == edge_token()
        self.connections.add(request.transport)
        self.taken.append(await request.read())
        return web.json_response(len(self.taken), status=self.status)


class LongPoll:
    """Serve's controller: who the routers are."""

    listener: Targets

    def __init__(self, _actor: object, listeners: dict[Any, Targets], **_: object) -> None:
        ((_, LongPoll.listener),) = listeners.items()


def tell_of(**id_to_port: int) -> None:
    """These routers run now."""
    running = [
        SimpleNamespace(replica_id=SimpleNamespace(unique_id=name), node_ip="127.0.0.1", backend_http_port=port)
        for name, port in id_to_port.items()
    ]
    LongPoll.listener(SimpleNamespace(running_replicas=running))


@pytest.fixture
async def servers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Server]]:
    """Two routers."""
    from serve_app.control import ray_long_poll

    monkeypatch.setattr(ray_long_poll.ray, "get_actor", lambda *_, **__: None)
    monkeypatch.setattr(ray_long_poll, "LongPollClient", LongPoll)
    servers = [Server(), Server()]
    for server in servers:
        await server.start()
    yield servers
    for server in servers:
        await server.stop()


async def make_channel(*, own_id: str = "") -> "AsyncIterator[RouterChannel]":
    """Of a replica, or of a router."""
    from serve_app.control.ray_router_channel import RouterChannel

    channel = RouterChannel("routers", "app", own_id=own_id)
    yield channel
    await channel._session.close()


@pytest.fixture
async def channel(servers: list[Server]) -> "AsyncIterator[RouterChannel]":  # noqa: ARG001  they are there first
    """A replica's."""
    async for each in make_channel():
        yield each


def sender_to(channel: "RouterChannel", *, timeout_s: float = 10, **options: Any) -> Any:
    """Of receipts."""
    from serve_app.control.ray_router_channel import send_to_routers

    return send_to_routers(channel, PATH, sender="r", timeout_s=timeout_s, **options)


async def test_every_router_is_told_over_one_connection(channel: "RouterChannel", servers: list[Server]) -> None:
    """In order, by messages that name the sender and count."""
    tell_of(a=servers[0].port, b=servers[1].port)
    answers: list[Any] = []
    send = sender_to(channel, on_answers=answers.append)
    for batch in (["one"], ["two", "three"]):
        await send(batch)
    assert answers == [[1, 1], [2, 2]]
    for server in servers:
        assert server.taken == [batches.encode("r", 1, ["one"]), batches.encode("r", 2, ["two", "three"])]
        assert len(server.connections) == 1


async def test_a_router_that_fails_is_counted_and_the_others_are_told(
    channel: "RouterChannel", servers: list[Server]
) -> None:
    """Whether it refuses, or is gone, or comes back."""
    tell_of(a=servers[0].port, b=servers[1].port)
    answers: list[Any] = []
    send = sender_to(channel, on_answers=answers.append)
    servers[1].status = 503
    with pytest.raises(DeliveryError, match="1 of 2 routers failed /internal/receipts: ClientResponseError"):
        await send(["one"])
    await servers[1].stop()
    with pytest.raises(DeliveryError, match="1 of 2 routers failed"):
        await send(["two"])
    assert answers == [[1], [2]]
    tell_of(a=servers[0].port)
    await send(["three"])
    assert answers[-1] == [3]


async def test_one_that_does_not_answer_in_time_has_failed(channel: "RouterChannel", servers: list[Server]) -> None:
    """As Ray's own calls would."""
    tell_of(a=servers[0].port)
    send = sender_to(channel, timeout_s=0)
    with pytest.raises(DeliveryError, match=r"1 of 1 routers failed .*TimeoutError"):
        await send(["one"])


async def test_without_any_router_nothing_is_delivered(channel: "RouterChannel") -> None:
    """A replica starts before them."""
    send = sender_to(channel)
    with pytest.raises(DeliveryError, match="no router is running"):
        await send(["one"])


async def test_a_router_does_not_tell_itself(servers: list[Server]) -> None:
    """And alone it has told all others."""
    async for channel in make_channel(own_id="a"):
        send = sender_to(channel)
        await send(["alone"])
        tell_of(a=servers[0].port, b=servers[1].port)
        await send(["both"])
    assert [len(server.taken) for server in servers] == [0, 1]

"""What asks the routers for their cost: bodies, sender, tables. The routers themselves need Ray."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from benchmarks.cost.route_cost.applications import OURS, RAY_PREFIX, router_ports
from benchmarks.cost.route_cost.command import CostRow, CostSample, Way, cost_rows
from benchmarks.cost.route_cost.conversations import NUM_CONVERSATIONS, Conversations
from benchmarks.cost.route_cost.sender import RouteSender, SenderError

LUA = """
    ["http-ray_prefix"] = { { host = "127.0.0.1", port = 30010, host_header = "127.0.0.1:30010" } },
    ["http-warmroute"] = { { host = "127.0.0.1", port = 30004, host_header = "a" }, { host = "b", port = 30005 } }
"""


class Router:
    """Answers with the body it got, over real connections."""

    def __init__(self, *, status: int = 200) -> None:
        self._status = status
        self.num_connections = 0
        self.bodies: list[bytes] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """On this port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}" % self._status)
                await writer.drain()
                if "connection: close" in head:
                    break
        writer.close()


BODIES = [b"a" * 300_000 + b"%d" % number for number in range(9)]


async def test_each_body_is_sent_once_and_whole() -> None:
    """On a connection of its own."""
    router, answers = Router(), []
    async with router.listening() as port:
        sender = RouteSender(port, on_answer=answers.append)
        latencies = await sender.send(BODIES, connections=3, seconds=60)
    assert sorted(router.bodies) == BODIES
    assert len(latencies) == len(answers) == len(BODIES)
    assert router.num_connections == 9


async def test_another_status_than_200_ends_it() -> None:
    """No figure is made of errors."""
    router = Router(status=503)
    async with router.listening() as port:
        with pytest.raises(ExceptionGroup) as caught:
            await RouteSender(port, on_answer=lambda _: None).send(BODIES, connections=1, seconds=60)
    assert isinstance(caught.value.exceptions[0], SenderError)
    assert "503" in str(caught.value.exceptions[0])


def test_conversations_return_with_a_new_turn_each() -> None:
    """The prefix stays, to the byte, and what is cold is all different."""
    conversations = Conversations("demo", seed=1)
    returning = conversations.returning(4000)
    bodies = [next(returning) for _ in range(2 * NUM_CONVERSATIONS)]
    first, second = bodies[0], bodies[NUM_CONVERSATIONS]
    messages = orjson.loads(first)["messages"]
    assert messages[:-2] == orjson.loads(second)["messages"][:-2]
    assert messages[-2:] != orjson.loads(second)["messages"][-2:]
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    cold = conversations.cold(4000, 50)
    assert len({body[:200] for body in cold}) == 50


def test_ports_are_read_as_ray_writes_them(tmp_path: Path) -> None:
    """For HAProxy."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "ingress_request_router.lua").write_text(LUA)
    assert router_ports(str(tmp_path)) == {OURS: [30004, 30005], RAY_PREFIX: [30010]}


def test_costs_are_medians_of_the_rounds() -> None:
    """A round that was disturbed does not count."""
    way = Way(1000, is_returning=True, connections=1)
    rounds = [
        CostSample([0.001] * 100, 1.0, 0.05),
        CostSample([0.002] * 100, 1.0, 0.05),
        CostSample([0.5] * 10, 5.0, 0.1),
    ]
    row = CostRow("returning", 1024, 1, OURS, decisions_per_s=100.0, p50_ms=2.0, p99_ms=2.0, cpu_ms=0.5)
    assert cost_rows({way: {OURS: rounds}}, {way: 1024}) == [row]

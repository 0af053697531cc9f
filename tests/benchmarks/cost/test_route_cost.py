"""What asks the routers for their cost: bodies, sender, tables. The routers themselves need Ray."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import orjson
import pytest

from benchmarks.cost.route_cost.applications import NAMES, OURS, RAY_PREFIX, router_ports
from benchmarks.cost.route_cost.conversations import NUM_CONVERSATIONS, Conversations
from benchmarks.cost.route_cost.result import CostCell, Costs, CostSample, Stalls
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


BODIES: list[Sequence[bytes]] = [(b"a" * 300_000, b"%d" % number) for number in range(9)]


@pytest.mark.parametrize(("keep_alive", "num_connections"), [(True, 3), (False, 9)])
async def test_each_body_is_sent_once_and_whole(keep_alive: bool, num_connections: int) -> None:
    """Over as many connections as is said, or one each."""
    router, answers = Router(), []
    async with router.listening() as port:
        sender = RouteSender(port, keep_alive=keep_alive, on_answer=answers.append)
        latencies = await sender.send(BODIES, connections=3, seconds=60)
    assert sorted(router.bodies) == [b"".join(body) for body in BODIES]
    assert len(latencies) == len(answers) == len(BODIES)
    assert router.num_connections == num_connections


async def test_at_a_rate_all_are_sent_too() -> None:
    """And no more than there are."""
    router = Router()
    async with router.listening() as port:
        sender = RouteSender(port, keep_alive=True, on_answer=lambda _: None)
        latencies = await sender.send_at(1000, BODIES, connections=2, seconds=1)
    assert len(latencies) == len(router.bodies) == len(BODIES)


async def test_another_status_than_200_ends_it() -> None:
    """No figure is made of errors."""
    router = Router(status=503)
    async with router.listening() as port:
        with pytest.raises(ExceptionGroup) as caught:
            await RouteSender(port, keep_alive=True, on_answer=lambda _: None).send(BODIES, connections=1, seconds=60)
    assert isinstance(caught.value.exceptions[0], SenderError)
    assert "503" in str(caught.value.exceptions[0])


def test_conversations_return_with_a_new_turn_each() -> None:
    """The beginning stays, to the byte, and what is cold is all different."""
    conversations = Conversations("demo", seed=1)
    returning = conversations.returning(4000)
    bodies = [next(returning) for _ in range(2 * NUM_CONVERSATIONS)]
    first, second = bodies[0], bodies[NUM_CONVERSATIONS]
    assert first[0] == second[0]
    assert first[1] != second[1]
    messages = orjson.loads(b"".join(first))["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    cold = conversations.cold(4000, 50)
    assert len({body[0][:200] for body in cold}) == 50


def test_ports_are_read_as_ray_writes_them(tmp_path: Path) -> None:
    """For HAProxy."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "ingress_request_router.lua").write_text(LUA)
    assert router_ports(str(tmp_path)) == {OURS: [30004, 30005], RAY_PREFIX: [30010]}


def test_costs_are_medians_of_the_rounds() -> None:
    """A round that was disturbed does not count."""
    cell = CostCell(1000, is_returning=True, connections=1, keep_alive=True)
    rounds = [
        CostSample([0.001] * 100, 1.0, 0.05),
        CostSample([0.002] * 100, 1.0, 0.05),
        CostSample([0.5] * 10, 5.0, 0.1),
    ]
    costs = Costs({cell: dict.fromkeys(NAMES, rounds)}, {cell: 1024})
    assert costs.per_second(cell, OURS) == 100
    assert costs.latency_ms(cell, OURS, 50) == pytest.approx(2.0)
    assert costs.cpu_ms(cell, OURS) == pytest.approx(0.5)


def test_a_stall_is_the_difference_within_each_pair() -> None:
    """So that a machine that grows slower does not count as one."""
    stalls = Stalls()
    for name in NAMES:
        stalls.name_to_without[name] = [0.010, 0.020]
        stalls.name_to_with[name] = [0.012, 0.021]
    assert stalls.added_ms(OURS) == pytest.approx([2.0, 1.0])

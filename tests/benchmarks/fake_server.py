"""A running application in this process, as the experiments see one: it serves, dies and recovers on demand."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import orjson

from benchmarks.harness.running_server import ServeReplica
from router import Funnel, Loss
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.response_headers import REASON_HEADER, REPLICA_HEADER, UNROUTED
from serve_app.messages.snapshot import RouterSnapshot, Totals, short_id
from serve_app.settings.schema import RouterSettings
from tests.snapshots import engine, replica, router

STEP_S = 0.005
RECOVERY_S = 0.15
ENGINE_PID = 1000
"""How far an engine's process id is from its actor's."""
USAGE = {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 60}}
"""Of every request that wants to know."""


@dataclass
class FakeProcess:
    """What can be killed, and tells the application."""

    pid: int
    on_kill: Any

    def kill(self) -> None:
        """At once."""
        self.on_kill(self.pid)

    def is_running(self) -> bool:
        """Not once killed; and killing is all that is done with it."""
        return False


class FakeServer:
    """Stands in for `benchmarks.harness.running_server.Server`."""

    def __init__(self, *, max_at_a_time: int = 1000, step_s: float = STEP_S) -> None:
        self.run = SimpleNamespace(model="demo", url="http://server", run_dir="nowhere", application="warmroute")
        self.pid_to_replica = {100: "app#LLM#r0", 101: "app#LLM#r1"}
        self.rank_to_pid = {0: 100, 1: 101}
        self.pid_to_router = {200: "a", 201: "b"}
        self.excluded: set[str] = set()
        self.killed: list[int] = []
        self.prompt_tokens: Counter[str] = Counter()
        self._names = itertools.count()
        self._turns = itertools.count()
        self._at_a_time = 0
        self._max_at_a_time = max_at_a_time
        self._step_s = step_s
        self._recoveries: set[asyncio.Task[None]] = set()
        self._unrouted = asyncio.Event()

    def client(self, *, keep_alive: bool = True) -> httpx.AsyncClient:
        """To a transport instead of a network."""
        del keep_alive
        return httpx.AsyncClient(base_url=self.run.url, transport=httpx.MockTransport(self._answer))

    async def routers(self) -> list[RouterSnapshot]:
        """As the real one."""
        await asyncio.sleep(0)
        replicas = {
            self.pid_to_replica[pid]: replica(
                rank,
                excluded="silent" if self.pid_to_replica[pid] in self.excluded else None,
                engine=engine(prompt=self.prompt_tokens[self.pid_to_replica[pid]]),
            )
            for rank, pid in self.rank_to_pid.items()
        }
        # Of the router that placed all of them.
        rank_to_totals = {
            rank: PromptTotals(Funnel(offered=tokens, lost={Loss.NEW: tokens}))
            for rank, pid in self.rank_to_pid.items()
            if (tokens := self.prompt_tokens[self.pid_to_replica[pid]])
        }
        return [
            router(name, replicas, totals=Totals(by_rank={} if number else rank_to_totals))
            for number, name in enumerate(self.pid_to_router.values())
        ]

    async def wait_until_idle(self) -> list[RouterSnapshot]:
        """It always is."""
        return await self.routers()

    async def replicas(self) -> list[ServeReplica]:
        """As the real one."""
        await asyncio.sleep(0)
        return [
            *(ServeReplica("LLM", short_id(name), "RUNNING", pid) for pid, name in self.pid_to_replica.items()),
            *(ServeReplica(ROUTER_DEPLOYMENT, name, "RUNNING", pid) for pid, name in self.pid_to_router.items()),
        ]

    async def router_settings(self) -> RouterSettings:
        """The defaults."""
        return RouterSettings()

    def process(self, pid: int) -> FakeProcess:
        """For `processes.actor`."""
        return FakeProcess(pid, self.kill)

    def engines(self, actor: FakeProcess) -> list[FakeProcess]:
        """For `processes.engines`."""
        return [FakeProcess(actor.pid + ENGINE_PID, self.kill)]

    def kill(self, pid: int) -> None:
        """A replica is excluded, and replaced after a while; a router is gone, and replaced after a while."""
        self.killed.append(pid)
        pid %= ENGINE_PID
        if pid in self.pid_to_router:
            del self.pid_to_router[pid]
        else:
            self.excluded.add(self.pid_to_replica[pid])
        task = asyncio.get_running_loop().create_task(self._recover(pid))
        self._recoveries.add(task)

    async def _recover(self, pid: int) -> None:
        await asyncio.sleep(RECOVERY_S)
        name = f"new{next(self._names)}"
        if pid >= 200:
            if not self.pid_to_router:
                await self._unrouted.wait()  # somebody shall have noticed
            self.pid_to_router[pid + 100] = name
            return
        rank = next(rank for rank, each in self.rank_to_pid.items() if each == pid)
        del self.pid_to_replica[pid]
        self.pid_to_replica[pid + 50] = f"app#LLM#{name}"
        self.rank_to_pid[rank] = pid + 50

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        is_routed = bool(self.pid_to_router)
        if not is_routed:
            self._unrouted.set()
        try:
            body = orjson.loads(request.content)
        except orjson.JSONDecodeError:
            return httpx.Response(400)
        if not isinstance(body.get("temperature", 0), int) or body["model"] != "demo":
            return httpx.Response(400)
        if self._at_a_time >= self._max_at_a_time:
            shape = {"type": "error"} if request.url.path.endswith("messages") else {}
            error = {"error": {"message": "busy", "type": "rate_limit_error"}} | shape
            return httpx.Response(429, headers={"retry-after": "1"}, json=error)
        healthy = [name for name in self.pid_to_replica.values() if name not in self.excluded]
        name = healthy[next(self._turns) % len(healthy)]
        self.prompt_tokens[name] += 100
        headers = {REPLICA_HEADER: name, REASON_HEADER: "ring" if is_routed else UNROUTED}
        if not body.get("stream"):
            return httpx.Response(200, headers=headers, json={})
        is_message = request.url.path.endswith("messages")
        events = self._events(
            name, body.get("max_tokens", 1), is_message=is_message, has_usage="stream_options" in body
        )
        headers["content-type"] = "text/event-stream"
        return httpx.Response(200, headers=headers, stream=_Stream(events))

    async def _events(self, name: str, num_tokens: int, *, is_message: bool, has_usage: bool) -> AsyncIterator[bytes]:
        self._at_a_time += 1
        try:
            for _ in range(num_tokens):
                if name in self.excluded:
                    yield b'data: {"error": {"message": "EngineCore died"}}\n\ndata: [DONE]\n\n'
                    return
                yield b'data: {"choices": [{"index": 0, "finish_reason": null}]}\n\n'
                await asyncio.sleep(self._step_s)
        finally:
            self._at_a_time -= 1
        if is_message:
            yield b'data: {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}\n\n'
            yield b'data: {"type": "message_stop"}\n\n'
        else:
            yield b'data: {"choices": [{"index": 0, "finish_reason": "length"}]}\n\n'
            if has_usage:
                yield (
                    b"data: "
                    + orjson.dumps({"choices": [], "usage": USAGE | {"completion_tokens": num_tokens}})
                    + b"\n\n"
                )
            yield b"data: [DONE]\n\n"


class _Stream(httpx.AsyncByteStream):
    def __init__(self, events: AsyncIterator[bytes]) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            yield event

"""One ingress router, or all of them, are killed under steady load."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import httpx
from rich.console import Console

from benchmarks.harness import processes
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.load import Load, closed_loop, short_requests
from benchmarks.harness.running_server import POLL_S, Server, ServeReplica, until
from benchmarks.harness.snapshots import is_idle
from benchmarks.live.failures.router_result import Kill, Look, RouterDeathOutcome, RouterDeathPlan
from serve_app.control.serve_api import ServeApiError
from serve_app.messages.snapshot import RouterSnapshot


async def run(server: Server, plan: RouterDeathPlan, console: Console) -> RouterDeathOutcome:
    """Kill one router, and then all if asked to, and watch until they are back or the time is up."""
    return await _RouterDeath(server, plan, console).run()


class _RouterDeath:
    """The load and looks of one run, filled while it is under way."""

    def __init__(self, server: Server, plan: RouterDeathPlan, console: Console) -> None:
        self._server = server
        self._plan = plan
        self._console = console
        self._load = Load()
        self._looks: list[Look] = []
        self._stopped = asyncio.Event()

    async def run(self) -> RouterDeathOutcome:
        before = await self._server.wait_until_idle()
        if not is_idle(before):
            raise MeasurementError("the server is busy: let no one else use it")
        kills = []
        started_s = time.monotonic()
        async with self._server.client(keep_alive=self._plan.keep_alive) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._send(client))
            await asyncio.sleep(self._plan.wait_s)
            kills.append(await self._kill(1))
            if self._plan.both:
                await asyncio.sleep(self._plan.wait_s)
                kills.append(await self._kill(len(before)))
            await asyncio.sleep(max(self._plan.wait_s, started_s + self._plan.seconds - time.monotonic()))
            self._stopped.set()
        after = await self._server.wait_until_idle()
        return RouterDeathOutcome(started_s, len(before), kills, self._looks, self._load.exchanges, after)

    async def _send(self, client: httpx.AsyncClient) -> None:
        requests = short_requests(self._server.run.model, seed=self._plan.seed, kind="short")
        await closed_loop(client, requests, self._load, num_clients=self._plan.clients, stopped=self._stopped)

    async def _watch(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(ServeApiError):  # a dashboard too busy to answer must not end the experiment
                self._looks.append(_look(await self._server.routers(), await self._server.replicas()))
            await asyncio.sleep(POLL_S)

    async def _kill(self, count: int) -> Kill:
        """Kill that many routers, and wait until as many as before are back."""
        running = [each for each in await self._server.replicas() if each.is_router and each.is_running]
        victims = running[:count]
        actors = [processes.actor(each.pid) for each in victims if each.pid is not None]
        for actor in actors:
            actor.kill()
        kill = Kill(time.monotonic(), tuple(each.replica_id for each in victims))
        self._console.print(f"Killed {count} of {len(running)} routers: {', '.join(kill.router_ids)}")
        is_back = await until(
            lambda: bool(self._looks) and kill.is_recovered(self._looks[-1], len(running)),
            timeout_s=self._plan.timeout_s,
        )
        if not is_back:
            self._console.print(f"Not {len(running)} routers after {self._plan.timeout_s:.0f} s")
        return kill


def _look(routers: Sequence[RouterSnapshot], replicas: Sequence[ServeReplica]) -> Look:
    return Look(
        at_s=time.monotonic(),
        running=frozenset(each.replica_id for each in replicas if each.is_router and each.is_running),
        answering=frozenset(router.router for router in routers if router.replicas),
    )

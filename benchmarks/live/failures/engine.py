"""A replica's engine, or the replica itself, is killed while long streams and new requests are under way."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random

import httpx
import psutil
from rich.console import Console

from benchmarks.harness import processes
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.load import Load, chat, open_loop, outcome_counts, short_requests
from benchmarks.harness.running_server import POLL_S, Server, until
from benchmarks.harness.snapshots import is_idle, rank_to_replica
from benchmarks.live.failures.engine_result import EngineDeathOutcome, EngineDeathPlan, Victim
from benchmarks.live.failures.ownership import Handover, handover, random_keys
from benchmarks.live.failures.sightings import Recovery, Sighting, recoveries, sighting
from loadtests.client.exchange import ClientRequest, Exchange
from loadtests.report.tables import counts_text
from loadtests.workloads.prompts import Prompts
from serve_app.messages.snapshot import RouterSnapshot, short_id

STREAM_WORDS = 40
START_INTERVAL_S = 0.1
"""Seconds between two streams' starts, so that routers see each other's reservations and spread them."""
START_TIMEOUT_S = 120.0
AFTERWARDS_S = 10.0


async def run(server: Server, plan: EngineDeathPlan, console: Console) -> EngineDeathOutcome:
    """Start the streams, kill, and watch until all is well again or the time is up."""
    return await _EngineDeath(server, plan, console).run()


class _EngineDeath:
    """The loads and sightings of one run, filled while it is under way."""

    def __init__(self, server: Server, plan: EngineDeathPlan, console: Console) -> None:
        self._server = server
        self._plan = plan
        self._console = console
        self._streams = Load()
        self._background = Load()
        self._sightings: list[Sighting] = []
        self._stopped = asyncio.Event()

    async def run(self) -> EngineDeathOutcome:
        before = await self._server.wait_until_idle()
        if not is_idle(before):
            raise MeasurementError("the server is busy: let no one else use it")
        async with self._server.client(keep_alive=self._plan.keep_alive) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._send_background(client))
            running = await self._start_streams(client, tasks)
            await asyncio.sleep(self._plan.wait_s)
            dead, rank = _choose(self._plan, self._streams.exchanges, before)
            killed_s, engine = await self._kill(dead, rank)
            known = tuple(before[0].replicas)

            def recovered() -> dict[str, Recovery]:
                return recoveries(self._sightings, dead=dead, known_before=known, rank=rank, killed_s=killed_s)

            await until(
                lambda: is_replaced(recovered(), len(before)) and all(task.done() for task in running),
                timeout_s=self._plan.timeout_s,
            )
            await asyncio.sleep(AFTERWARDS_S)
            self._stopped.set()
            for task in running:
                task.cancel()
        after = await self._server.wait_until_idle()
        return EngineDeathOutcome(
            dead=dead,
            rank=rank,
            killed_s=killed_s,
            streams=self._streams.exchanges,
            background=self._background,
            routers_before=before,
            routers_after=after,
            recoveries=recovered(),
            handovers=await self._handovers(dead, rank, before, after),
            is_engine_orphaned=_is_alive(engine),
        )

    async def _watch(self) -> None:
        while not self._stopped.is_set():
            routers = await self._server.routers()
            self._sightings.append(sighting(time.monotonic(), routers))
            await asyncio.sleep(POLL_S)

    async def _send_background(self, client: httpx.AsyncClient) -> None:
        requests = short_requests(self._server.run.model, seed=self._plan.seed, kind="short", are_some_whole=True)
        await open_loop(client, requests, self._background, rate=self._plan.rate, stopped=self._stopped)

    async def _start_streams(self, client: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        self._console.print(f"Starting {self._plan.streams} streams of {self._plan.tokens} tokens")
        running = []
        for request in _long_requests(self._server.run.model, self._plan):
            running.append(tasks.create_task(self._streams.send(client, request)))
            await asyncio.sleep(START_INTERVAL_S)
        await until(
            lambda: all(each.replica or each.outcome for each in self._streams.exchanges), timeout_s=START_TIMEOUT_S
        )
        return running

    async def _kill(self, dead: str, rank: int) -> tuple[float, psutil.Process]:
        """When it was killed, and the replica's engine process."""
        pid = next((each.pid for each in await self._server.replicas() if each.replica_id == short_id(dead)), None)
        if pid is None:
            raise MeasurementError(f"Serve does not list replica {short_id(dead)} with a process")
        actor = processes.actor(pid)
        engines = processes.engines(actor)
        if not engines:
            raise MeasurementError(f"replica {short_id(dead)} has no engine process below its actor, process {pid}")
        process = engines[0] if self._plan.kill is Victim.ENGINE else actor
        process.kill()
        self._console.print(
            f"Killed the {self._plan.kill} of replica {short_id(dead)}, rank {rank}, process {process.pid}"
        )
        return time.monotonic(), engines[0]

    async def _handovers(
        self, dead: str, rank: int, before: Sequence[RouterSnapshot], after: Sequence[RouterSnapshot]
    ) -> dict[str, Handover]:
        virtual_nodes = (await self._server.router_settings()).virtual_nodes
        router_to_ranks = {router.router: rank_to_replica(router) for router in after}
        keys = random_keys(self._plan.seed)
        return {
            router.router: handover(
                rank_to_replica(router), router_to_ranks[router.router], keys, dead=dead, virtual_nodes=virtual_nodes
            )
            for router in before
            if rank in router_to_ranks.get(router.router, {})
        }


def is_replaced(router_to_recovery: Mapping[str, Recovery], num_routers: int) -> bool:
    """Whether every router has seen the replacement."""
    seen = [recovery.replaced_s for recovery in router_to_recovery.values()]
    return len(seen) >= num_routers and None not in seen


def _long_requests(model: str, plan: EngineDeathPlan) -> list[ClientRequest]:
    prompts = Prompts(Random(f"streams {plan.seed}"), shared_prefix_words=(), shared=0)
    return [
        chat(f"stream-{number:02d}", "stream", model, prompts.text(STREAM_WORDS), answer_tokens=plan.tokens)
        for number in range(plan.streams)
    ]


def _choose(plan: EngineDeathPlan, streams: Sequence[Exchange], routers: Sequence[RouterSnapshot]) -> tuple[str, int]:
    """The replica to kill, and its rank."""
    ranks = rank_to_replica(routers[0])
    if plan.rank is not None:
        if plan.rank not in ranks:
            raise MeasurementError(f"--rank {plan.rank} does not exist: there is {', '.join(map(str, sorted(ranks)))}")
        return ranks[plan.rank], plan.rank
    served = Counter(each.replica for each in streams if each.outcome is None and each.replica in ranks.values())
    if not served:
        raise MeasurementError(f"no stream is under way: {counts_text(outcome_counts(streams))}; raise --tokens")
    dead = served.most_common(1)[0][0]
    assert dead is not None
    return dead, next(rank for rank, replica in ranks.items() if replica == dead)


def _is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE

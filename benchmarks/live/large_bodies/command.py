"""The command line, and the phases one after another."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

import httpx
import typer
from rich.console import Console

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.load import Load, open_loop, short_requests
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import Server, running_server
from benchmarks.harness.snapshots import unreadable
from benchmarks.live.large_bodies.result import (
    MIB,
    ROUND,
    Alongside,
    LargeBodiesOutcome,
    LatencyPhase,
    large_table,
    ordinary_table,
)
from benchmarks.live.large_bodies.sender import Burst, BurstSender, Sent
from loadtests.report.console import notes_console

WARM_UP_S = 5.0

app = make_app()


@app.command()
@measurement
def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of: without, just under, without, just over.")] = 2,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each of the four phases.")] = 30,
    rate: Annotated[float, typer.Option(min=0.1, help="Ordinary requests a second.")] = 8,
    large_rate: Annotated[float, typer.Option(min=0.1, help="Large bodies a second.")] = 10,
    limit_mib: Annotated[float, typer.Option(min=0.25, help="The sizes are 1/16 MiB below and above this.")] = 8,
    seed: SeedOption = 1,
) -> Report:
    """Measure ordinary requests with and without large bodies at the same time, in turn."""
    console = notes_console()
    plan = LargeBodiesPlan(rounds, seconds, rate, large_rate, round(limit_mib * MIB), seed)
    with running_server() as server, BurstSender(server.run.url, server.run.model) as sender:
        result = asyncio.run(_LargeBodies(server, sender, plan, console).run())
    late_s = max(phase.max_late_s for phase in result.phases)
    line = f"Ordinary requests were sent {late_s * 1000:.0f} ms late at worst."
    return Report([ordinary_table(result), large_table(result)], result, result.faults(), lines=[line])


@dataclass(frozen=True, slots=True)
class LargeBodiesPlan:
    """What the command line asks for."""

    rounds: int
    seconds: float
    rate: float
    large_rate: float
    limit_bytes: int
    seed: int


class _LargeBodies:
    """The phases of a run, one after another."""

    def __init__(self, server: Server, sender: BurstSender, plan: LargeBodiesPlan, console: Console) -> None:
        self._server = server
        self._sender = sender
        self._plan = plan
        self._console = console
        self._requests = short_requests(server.run.model, seed=plan.seed, kind="ordinary")

    async def run(self) -> LargeBodiesOutcome:
        phases = []
        async with self._server.client() as client:
            await self._server.wait_until_idle()
            await self._send_ordinary(client, WARM_UP_S)
            for number in range(self._plan.rounds):
                for alongside in ROUND:
                    self._console.print(
                        f"Round {number + 1} of {self._plan.rounds}, sent at the same time: {alongside}"
                    )
                    phases.append(await self._measure(client, alongside, number))
        return LargeBodiesOutcome(phases)

    async def _measure(self, client: httpx.AsyncClient, alongside: Alongside, round_number: int) -> LatencyPhase:
        sending: asyncio.Task[Sent] | None = None
        before = unreadable(await self._server.routers())
        async with asyncio.TaskGroup() as tasks:
            num_bytes = alongside.num_bytes(self._plan.limit_bytes)
            if num_bytes is not None:
                burst = Burst(num_bytes, self._plan.large_rate, self._plan.seconds)
                sending = tasks.create_task(self._sender.send(burst))
            load = await self._send_ordinary(client, self._plan.seconds)
        sent = None if sending is None else sending.result()
        after = unreadable(await self._server.wait_until_idle())
        return LatencyPhase(alongside, round_number, load.exchanges, load.max_late_s, sent, after - before)

    async def _send_ordinary(self, client: httpx.AsyncClient, seconds: float) -> Load:
        load, stopped = Load(), asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stopped.set)
        await open_loop(client, self._requests, load, rate=self._plan.rate, stopped=stopped)
        return load

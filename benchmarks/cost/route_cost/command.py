"""What a decision costs over HTTP: our router, Ray's prefix router and Ray's round robin, asked in turn."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress

from benchmarks.cost.route_cost.applications import NAMES, OURS, READY_TIMEOUT_S, Addresses, running
from benchmarks.cost.route_cost.conversations import NUM_CONVERSATIONS, Conversations
from benchmarks.cost.route_cost.receipts import Reporter
from benchmarks.cost.route_cost.result import CostCell, Costs, CostSample, Stalls
from benchmarks.cost.route_cost.self_test import good_report
from benchmarks.cost.route_cost.sender import Body, RouteSender
from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.console import notes_console
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.report import Report
from loadtests.report.statistics import percentile
from serve_app.settings import vllm_options
from serve_app.settings.load import load_settings
from serve_app.settings.schema import Settings

SIZES = (1_000, 4_000, 16_000, 64_000)
MAX_MODEL_LEN = 131_072
MAX_COLD_TOKENS = 1_000_000
"""Tokens of the cold prompts of one sample together, which are made before it."""
SHORT_TOKENS, LONG_TOKENS = 1_000, 64_000
STALL_RATE, STALL_CONNECTIONS = 100.0, 4

app = make_app()


@app.command()
@measurement
def main(
    config: Annotated[Path, typer.Argument(help="Whose model's tokenizer and template are used.")],
    rounds: Annotated[int, typer.Option(min=1, help="Times that each router is asked in each way, in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of each time.")] = 1.5,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of stretches without and with long cold prompts.")] = 5,
    pair_seconds: Annotated[float, typer.Option(min=1, help="Seconds of each stretch.")] = 10,
    seed: SeedOption = 1,
) -> Report:
    """Ask our router, Ray's prefix router and Ray's round robin which replica, on one cluster."""
    console = notes_console()
    settings = _with_long_prompts(vllm_options.with_absolute_model_path(load_settings(config)))
    with running(settings) as addresses:
        measuring = _Measuring(addresses, Conversations(settings.model_id, seed=seed), console)
        costs, stalls = uvloop.run(measuring.run(rounds, seconds, pairs, pair_seconds, llm=settings.llm))
    stall_table = stalls.table(rate=STALL_RATE, short_tokens=SHORT_TOKENS, long_tokens=LONG_TOKENS)
    return Report([*costs.tables(), stall_table], {"costs": costs.as_json(), "stalls": stalls.as_json()})


def _with_long_prompts(settings: Settings) -> Settings:
    """No engine runs, so the model may be taken to read more than it can."""
    arguments = {
        **settings.llm.get("engine_kwargs", {}),
        "max_model_len": MAX_MODEL_LEN,
        "hf_overrides": {"max_position_embeddings": MAX_MODEL_LEN},
    }
    return settings.model_copy(update={"llm": {**settings.llm, "engine_kwargs": arguments}})


class _Measuring:
    """Asks each router in turn."""

    def __init__(self, addresses: Addresses, conversations: Conversations, console: Console) -> None:
        self._name_to_port = addresses.name_to_port
        self._name_to_process = {name: _listener(port) for name, port in addresses.name_to_port.items()}
        self._conversations = conversations
        self._console = console
        self._reporter = Reporter(addresses.replica_to_url)

    async def run(
        self, rounds: int, seconds: float, pairs: int, pair_seconds: float, *, llm: dict[str, Any]
    ) -> tuple[Costs, Stalls]:
        await self._reporter.set_self_test(await good_report(llm))
        async with self._reporter.reporting():
            await self._until_ready()
            costs = await self._costs(rounds=rounds, seconds=seconds)
            return costs, await self._stalls(pairs=pairs, seconds=pair_seconds)

    async def _until_ready(self) -> None:
        """A router answers before it can tokenise."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._reporter.prompt_tokens:
            if time.monotonic() > deadline:
                raise MeasurementError(f"our router still cannot tokenise after {READY_TIMEOUT_S:.0f} s")
            await self._sender(OURS, keep_alive=True).send(self._conversations.cold(100, 1), connections=1, seconds=1)

    async def _costs(self, *, rounds: int, seconds: float) -> Costs:
        cells = [
            CostCell(num_tokens, is_returning, connections, keep_alive)
            for num_tokens in SIZES
            for is_returning in (False, True)
            for connections in (1, 16)
            for keep_alive in (True, False)
        ]
        samples: dict[CostCell, dict[str, list[CostSample]]] = {cell: defaultdict(list) for cell in cells}
        cell_to_tokens = {}
        with Progress(console=self._console, transient=True) as progress:
            task = progress.add_task("Asking", total=rounds * len(cells))
            for _ in range(rounds):
                for cell in cells:
                    for name, sample in (await self._ask_all(cell, seconds)).items():
                        samples[cell][name].append(sample)
                    cell_to_tokens[cell] = self._reporter.prompt_tokens
                    progress.advance(task)
        return Costs(samples, cell_to_tokens)

    async def _stalls(self, *, pairs: int, seconds: float) -> Stalls:
        stalls = Stalls()
        long_cold = iter(self._conversations.cold(LONG_TOKENS, round(pairs * len(NAMES) * seconds)))
        for _ in range(pairs):
            for name in NAMES:
                stalls.name_to_without[name].append(await self._short_p99_s(name, (), seconds))
                stalls.name_to_with[name].append(await self._short_p99_s(name, long_cold, seconds))
        return stalls

    async def _ask_all(self, cell: CostCell, seconds: float) -> dict[str, CostSample]:
        """Ask all routers with the same bodies."""
        if cell.is_returning:
            bodies = self._conversations.returning(cell.num_tokens)
            return {name: await self._ask_again(name, cell, bodies, seconds) for name in NAMES}
        cold = self._conversations.cold(cell.num_tokens, MAX_COLD_TOKENS // cell.num_tokens)
        return {name: await self._ask(name, cell, cold, seconds) for name in NAMES}

    async def _ask_again(self, name: str, cell: CostCell, bodies: Iterable[Body], seconds: float) -> CostSample:
        first_turns = islice(bodies, NUM_CONVERSATIONS)
        await self._sender(name, keep_alive=True).send(first_turns, connections=1, seconds=float("inf"))
        return await self._ask(name, cell, bodies, seconds)

    async def _ask(self, name: str, cell: CostCell, bodies: Iterable[Body], seconds: float) -> CostSample:
        process = self._name_to_process[name]
        sender = self._sender(name, keep_alive=cell.keep_alive)
        started_at, cpu_before_s = time.perf_counter(), _cpu_s(process)
        latencies = await sender.send(bodies, connections=cell.connections, seconds=seconds)
        return CostSample(latencies, time.perf_counter() - started_at, _cpu_s(process) - cpu_before_s)

    async def _short_p99_s(self, name: str, long_cold: Iterable[Body], seconds: float) -> float:
        sender = self._sender(name, keep_alive=True)
        returning = self._conversations.returning(SHORT_TOKENS)
        await sender.send(islice(returning, NUM_CONVERSATIONS), connections=1, seconds=float("inf"))
        cold = self._conversations.cold(SHORT_TOKENS, round(STALL_RATE * seconds / 2))
        short = chain.from_iterable(zip(returning, cold, strict=False))
        async with asyncio.TaskGroup() as tasks:
            latencies = tasks.create_task(
                sender.send_at(STALL_RATE, short, connections=STALL_CONNECTIONS, seconds=seconds)
            )
            tasks.create_task(sender.send_at(1.0, long_cold, connections=1, seconds=seconds))
        return percentile(latencies.result(), 99)

    def _sender(self, name: str, *, keep_alive: bool) -> RouteSender:
        on_answer: Callable[[bytes], None] = self._reporter.on_answer if name == OURS else _ignore
        return RouteSender(self._name_to_port[name], keep_alive=keep_alive, on_answer=on_answer)


def _ignore(_: bytes) -> None:
    """Ray's routers want no receipts."""


def _listener(port: int) -> psutil.Process:
    """The process that listens there."""
    listening = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
    return psutil.Process(next(each.pid for each in listening if each.laddr and each.laddr.port == port))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)

"""What a decision costs over HTTP: our router, Ray's prefix router and Ray's round robin, asked in turn."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from statistics import median
from typing import Annotated

import psutil
import typer
import uvloop
from rich.progress import Progress

from benchmarks.cost.route_cost.applications import NAMES, OURS, READY_TIMEOUT_S, Addresses, running
from benchmarks.cost.route_cost.conversations import NUM_CONVERSATIONS, Conversations
from benchmarks.cost.route_cost.receipts import Reporter, good_report
from benchmarks.cost.route_cost.sender import RouteSender
from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.processes import cpu_s
from benchmarks.harness.report import Report
from benchmarks.harness.rows import as_table
from loadtests.report.console import notes_console
from loadtests.report.statistics import percentile
from serve_app.settings import vllm_options
from serve_app.settings.load import load_settings
from serve_app.settings.schema import Settings

SIZES = (1_000, 4_000, 16_000, 64_000)
CONNECTIONS = (1, 16)
MAX_MODEL_LEN = 131_072
MAX_COLD_TOKENS = 1_000_000
"""Tokens of the cold prompts of one sample together, which are made before it."""

app = make_app()


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking: how many tokens, about, of which conversations, over how many connections."""

    num_tokens: int
    is_returning: bool
    connections: int


@dataclass(frozen=True, slots=True)
class CostSample:
    """What one router, asked in one way, gave once."""

    latencies_s: Sequence[float]
    seconds: float
    """Seconds for all of them together."""
    cpu_s: float
    """CPU seconds of the router's process in that time."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """One router asked in one way; medians over the rounds."""

    prompts: str
    tokens: int
    """Tokens of a prompt, as our router counted them."""
    connections: int
    router: str
    decisions_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """CPU time of the router's process for each decision."""


@app.command()
@measurement
def main(
    config: Annotated[Path, typer.Argument(help="Whose model's tokenizer and template are used.")],
    rounds: Annotated[int, typer.Option(min=1, help="Times that each router is asked in each way, in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds of each time.")] = 1.5,
    seed: SeedOption = 1,
) -> Report:
    """Ask our router, Ray's prefix router and Ray's round robin which replica, on one cluster."""
    settings = _with_long_prompts(vllm_options.with_absolute_model_path(load_settings(config)))
    with running(settings) as addresses:
        measuring = _Measuring(addresses, Conversations(settings.model_id, seed=seed))
        rows = uvloop.run(measuring.run(settings, rounds, seconds))
    return Report([as_table("Decisions over HTTP, a new connection for each", rows)], {"costs": rows})


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

    def __init__(self, addresses: Addresses, conversations: Conversations) -> None:
        self._name_to_port = addresses.name_to_port
        self._name_to_process = {name: _listener(port) for name, port in addresses.name_to_port.items()}
        self._conversations = conversations
        self._reporter = Reporter(addresses.replica_to_url)

    async def run(self, settings: Settings, rounds: int, seconds: float) -> list[CostRow]:
        await self._reporter.set_self_test(await good_report(settings.llm))
        async with self._reporter.reporting():
            await self._until_ready()
            return await self._rows(rounds, seconds)

    async def _until_ready(self) -> None:
        """A router answers before it can tokenise."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._reporter.prompt_tokens:
            if time.monotonic() > deadline:
                raise MeasurementError(f"our router still cannot tokenise after {READY_TIMEOUT_S:.0f} s")
            await self._sender(OURS).send(self._conversations.cold(100, 1), connections=1, seconds=1)

    async def _rows(self, rounds: int, seconds: float) -> list[CostRow]:
        ways = [Way(*way) for way in product(SIZES, (False, True), CONNECTIONS)]
        samples: dict[Way, defaultdict[str, list[CostSample]]] = {way: defaultdict(list) for way in ways}
        way_to_tokens = {}
        with Progress(console=notes_console(), transient=True) as progress:
            for way in progress.track(rounds * ways, description="Asking"):
                for name, sample in (await self._ask_all(way, seconds)).items():
                    samples[way][name].append(sample)
                way_to_tokens[way] = self._reporter.prompt_tokens
        return cost_rows(samples, way_to_tokens)

    async def _ask_all(self, way: Way, seconds: float) -> dict[str, CostSample]:
        """Ask all routers with the same bodies; conversations return after a first turn."""
        if not way.is_returning:
            cold = self._conversations.cold(way.num_tokens, MAX_COLD_TOKENS // way.num_tokens)
            return {name: await self._ask(name, way, cold, seconds) for name in NAMES}
        samples, bodies = {}, self._conversations.returning(way.num_tokens)
        for name in NAMES:
            first_turns = islice(bodies, NUM_CONVERSATIONS)
            await self._sender(name).send(first_turns, connections=1, seconds=float("inf"))
            samples[name] = await self._ask(name, way, bodies, seconds)
        return samples

    async def _ask(self, name: str, way: Way, bodies: Iterable[bytes], seconds: float) -> CostSample:
        process = self._name_to_process[name]
        started_at, cpu_before_s = time.perf_counter(), cpu_s(process)
        latencies_s = await self._sender(name).send(bodies, connections=way.connections, seconds=seconds)
        return CostSample(latencies_s, time.perf_counter() - started_at, cpu_s(process) - cpu_before_s)

    def _sender(self, name: str) -> RouteSender:
        """Ray's routers want no receipts."""
        on_answer = self._reporter.on_answer if name == OURS else lambda _: None
        return RouteSender(self._name_to_port[name], on_answer=on_answer)


def cost_rows(
    samples: Mapping[Way, Mapping[str, Sequence[CostSample]]], way_to_tokens: Mapping[Way, int]
) -> list[CostRow]:
    """A row for each way of asking and router."""
    return [
        CostRow(
            "returning" if way.is_returning else "cold",
            way_to_tokens[way],
            way.connections,
            name,
            decisions_per_s=median(len(sample.latencies_s) / sample.seconds for sample in rounds),
            p50_ms=median(percentile(sample.latencies_s, 50) for sample in rounds) * 1000,
            p99_ms=median(percentile(sample.latencies_s, 99) for sample in rounds) * 1000,
            cpu_ms=median(sample.cpu_s / len(sample.latencies_s) for sample in rounds) * 1000,
        )
        for way, name_to_rounds in samples.items()
        for name, rounds in name_to_rounds.items()
    ]


def _listener(port: int) -> psutil.Process:
    """The process that listens there."""
    listening = (connection for connection in psutil.net_connections("tcp") if connection.status == psutil.CONN_LISTEN)
    return psutil.Process(
        next(connection.pid for connection in listening if connection.laddr and connection.laddr.port == port)
    )

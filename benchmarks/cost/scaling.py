"""What another number of replicas costs: hit rate and TTFT around it, with warm-up and hand-over, and without.

Starts a cluster for each variant, one after the other. Under steady load of conversations, the number of replicas is
changed; before each change, streams are started that outlive it and HAProxy's reload.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.load import Load, chat, open_loop, outcome_counts
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import Server, own_server
from loadtests.client.exchange import ClientRequest, Exchange
from loadtests.client.turn_request import interleaved_turns
from loadtests.report.console import notes_console
from loadtests.report.statistics import percentile
from loadtests.report.tables import counts_text, make_table, milliseconds_text
from serve_app.control.running_application import RunningApplication
from serve_app.control.serve_api import ServeApi
from serve_app.control.serve_config import replica_deployment
from serve_app.local.cluster import StartError
from serve_app.settings.load import load_settings
from serve_app.settings.schema import Settings
from serve_app.settings.vllm_options import with_absolute_model_path

app = make_app()

OPEN_SESSIONS = 96
"""Sessions at a time, whose turns are sent in random order."""
BUCKET_S = 10.0
CHANGE_TIMEOUT_S = 900.0
POLL_S = 0.5
NUM_STREAMS, STREAM_TOKENS = 8, 8000
"""Long streams that are started before each change, and the tokens of each one's answer."""
STREAM_S = 150.0
"""How long a stream should last at least."""
STREAM_INTERVAL_S = 0.2
MAX_LATE_S = 2.0
MAX_OUTSTANDING = 100_000


@dataclass(frozen=True, slots=True)
class ScalingPlan:
    """What the command line asks for. Times in seconds."""

    replicas: Sequence[int]
    """Numbers of replicas, one after the other."""
    rate: float
    """Requests a second."""
    hold_s: float
    """Time between a change and the next."""
    seed: int


@dataclass(frozen=True, slots=True)
class ScalingChange:
    """A change of the number of replicas. Times are on the clock of `Exchange.started_s`."""

    before: int
    after: int
    asked_s: float
    done_s: float
    """When all routers route to the new number."""

    def __str__(self) -> str:
        return f"{self.before} to {self.after}"


@dataclass(frozen=True, slots=True)
class ScalingVariant:
    """What came of one variant."""

    name: str
    plan: ScalingPlan
    changes: Sequence[ScalingChange]
    exchanges: Sequence[Exchange]
    streams: Sequence[Exchange]
    max_late_s: float

    def between(self, start_s: float, end_s: float) -> list[Exchange]:
        """Complete ones that were sent then."""
        return [
            exchange for exchange in self.exchanges if exchange.is_complete and start_s <= exchange.started_s < end_s
        ]

    def faults(self) -> list[str]:
        """Everything that must not be."""
        faults = []
        for what, exchanges in (("requests", self.exchanges), ("streams", self.streams)):
            failed = [exchange for exchange in exchanges if not exchange.is_complete]
            if failed:
                faults.append(f"{self.name}: {what}: {counts_text(outcome_counts(failed))}")
        short = [
            stream for stream in self.streams if stream.is_complete and stream.ended_s - stream.started_s < STREAM_S
        ]
        if short:
            faults.append(f"{self.name}: {len(short)} streams were shorter than {STREAM_S:.0f} s")
        if self.max_late_s > MAX_LATE_S:
            faults.append(f"{self.name}: requests were sent up to {self.max_late_s:.1f} s late")
        return faults


@app.command()
@measurement
def main(
    config: Annotated[Path, typer.Argument(help="A settings file; its number of replicas is not used.")],
    replicas: Annotated[str, typer.Option(help="How many there are, one number after the other.")] = "4,8,4",
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 3.0,
    hold: Annotated[float, typer.Option(min=BUCKET_S, help="Seconds of load before and after each change.")] = 120.0,
    seed: SeedOption = 1,
) -> Report:
    """Scale under load, with warm-up and hand-over and without."""
    plan = ScalingPlan(_numbers(replicas), rate, hold, seed)
    settings = with_absolute_model_path(load_settings(config))
    results = [_in_a_process(settings, plan, is_handing_on=is_handing_on) for is_handing_on in (True, False)]
    return Report(
        [summary(results, settings)],
        {"engine": settings.engine, "results": results},
        [fault for result in results for fault in result.faults()],
        lines=[f"{result.name}: {len(result.streams)} streams, {_durations(result.streams)}" for result in results],
    )


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split(",") if number.strip().isdigit())
    if len(numbers) < 2 or min(numbers) < 1:  # noqa: PLR2004  a change has two
        raise MeasurementError(f"--replicas {text}: two numbers or more, each at least 1, as in 4,8,4")
    return numbers


def _in_a_process(settings: Settings, plan: ScalingPlan, *, is_handing_on: bool) -> ScalingVariant:
    """Measure in a process of its own: Ray's handles outlive the cluster that they were made for."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        return processes.submit(_measured, settings, plan, is_handing_on=is_handing_on).result()


def _measured(settings: Settings, plan: ScalingPlan, *, is_handing_on: bool) -> ScalingVariant:
    console = notes_console()
    deployment = {**settings.llm.get("deployment_config", {}), "num_replicas": plan.replicas[0]}
    own = settings.model_copy(
        update={
            "llm": {**settings.llm, "deployment_config": deployment},
            "replicas": settings.replicas.model_copy(
                update={"warm_joining": is_handing_on, "hand_over": is_handing_on}
            ),
        }
    )
    name = "with warm-up and hand-over" if is_handing_on else "without"
    with own_server(own) as run:
        application = RunningApplication(run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url)
        server = Server(run, application)
        return asyncio.run(_ScalingRun(server, plan, name, console).run())


class _ScalingRun:
    """The loads of one variant, filled while it is under way."""

    def __init__(self, server: Server, plan: ScalingPlan, name: str, console: Console) -> None:
        self._server = server
        self._plan = plan
        self._name = name
        self._console = console
        self._load = Load()
        self._streams = Load()

    async def run(self) -> ScalingVariant:
        stopped = asyncio.Event()
        changes: list[ScalingChange] = []
        coming = interleaved_turns(self._server.run.model, num_open=OPEN_SESSIONS, seed=self._plan.seed)
        async with self._server.client(keep_alive=False) as client, asyncio.TaskGroup() as tasks:
            sending = open_loop(
                client, coming, self._load, rate=self._plan.rate, stopped=stopped, max_outstanding=MAX_OUTSTANDING
            )
            tasks.create_task(sending)
            await asyncio.sleep(2 * self._plan.hold_s)  # caches are empty at first
            for before, after in zip(self._plan.replicas, self._plan.replicas[1:], strict=False):
                for request in self._long_requests(len(changes)):
                    tasks.create_task(self._streams.send(client, request))
                    await asyncio.sleep(STREAM_INTERVAL_S)
                changes.append(await self._change(before, after))
                await asyncio.sleep(self._plan.hold_s)
            stopped.set()
        return ScalingVariant(
            self._name, self._plan, changes, self._load.exchanges, self._streams.exchanges, self._load.max_late_s
        )

    def _long_requests(self, number: int) -> Iterator[ClientRequest]:
        model = self._server.run.model
        for index in range(NUM_STREAMS):
            content = f"Stream {number}.{index}: tell everything that you know about the history of railways."
            yield chat(f"stream-{number}-{index}", "stream", model, content, answer_tokens=STREAM_TOKENS)

    async def _change(self, before: int, after: int) -> ScalingChange:
        run, asked_s = self._server.run, time.monotonic()
        self._console.print(f"{self._name}: from {before} to {after} replicas")
        api = ServeApi(run.dashboard_url)
        await asyncio.to_thread(api.scale, run.application, after, deployment=replica_deployment(run.model))
        while True:
            routers = await self._server.routers()
            if routers and all(len(router.replicas) == after for router in routers):
                return ScalingChange(before, after, asked_s, time.monotonic())
            if time.monotonic() > asked_s + CHANGE_TIMEOUT_S:
                raise StartError(f"there are not {after} replicas after {CHANGE_TIMEOUT_S:.0f} s")
            await asyncio.sleep(POLL_S)


def hit_rate(exchanges: Sequence[Exchange]) -> float:
    """A ratio of sums, by the answers' own usage; 0 without any."""
    streams = [exchange.stream for exchange in exchanges if exchange.stream is not None]
    offered = sum(stream.prompt_tokens for stream in streams)
    return sum(stream.cached_tokens for stream in streams) / offered if offered else 0.0


def dip(result: ScalingVariant, start_s: float, end_s: float) -> float:
    """The lowest hit rate of a stretch of `BUCKET_S`."""
    num_buckets = max(1, int((end_s - start_s) / BUCKET_S))
    starts = (start_s + number * BUCKET_S for number in range(num_buckets))
    return min(hit_rate(result.between(start, start + BUCKET_S)) for start in starts)


def summary(results: Sequence[ScalingVariant], settings: Settings) -> Table:
    """A row for each change and variant: the time before, until it is done, and after."""
    note = "" if settings.engine == "vllm" else f", {settings.engine} engines"
    table = make_table(
        f"{results[0].plan.rate:g} requests/s{note}; before: {results[0].plan.hold_s:.0f} s until it was asked for, "
        "after: as long from when routers had it",
        left=("replicas", ""),
        right=(
            "done after s",
            "hit rate\nbefore",
            "\nduring",
            "\nafter",
            f"\nlowest {BUCKET_S:.0f} s after",
            "TTFT p50 ms\nbefore",
            "\nduring",
            "\nafter",
            "TTFT p99 ms\nbefore",
            "\nduring",
            "\nafter",
        ),
    )
    for number in range(len(results[0].changes)):
        for result in results:
            change, hold_s = result.changes[number], result.plan.hold_s
            spans = (
                (change.asked_s - hold_s, change.asked_s),
                (change.asked_s, change.done_s),
                (change.done_s, change.done_s + hold_s),
            )
            parts = [result.between(*span) for span in spans]
            times = [
                [exchange.first_byte_s for exchange in part if exchange.first_byte_s is not None] for part in parts
            ]
            table.add_row(
                str(change),
                result.name,
                f"{change.done_s - change.asked_s:.0f}",
                *(f"{hit_rate(part):.3f}" for part in parts),
                f"{dip(result, *spans[2]):.3f}",
                *(milliseconds_text(part, 50) for part in times),
                *(milliseconds_text(part, 99) for part in times),
            )
    return table


def _durations(streams: Sequence[Exchange]) -> str:
    lasted_s = [stream.ended_s - stream.started_s for stream in streams]
    if not lasted_s:
        return "none"
    return (
        f"{min(lasted_s):.0f} to {max(lasted_s):.0f} s long, median {percentile(lasted_s, 50):.0f} s; "
        + counts_text(outcome_counts(streams))
    )

"""The command line, and the load with its samples."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.load import Load, open_loop
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import Server, running_server
from benchmarks.harness.snapshots import NOTHING, EngineTotals, engine_totals, is_idle, outstanding
from benchmarks.live.soak.samples import (
    MEMORY,
    Course,
    Exclusions,
    Recorder,
    memory_series,
    ranks_by_short_id,
    router_series,
)
from benchmarks.live.soak.traffic import SoakTraffic, is_as_expected
from loadtests.client.exchange import Exchange
from loadtests.report.console import notes_console
from loadtests.report.tables import counts_text, make_table
from serve_app.control.serve_api import ServeApiError
from serve_app.messages.snapshot import RouterSnapshot

LOOK_S = 1.0
"""Seconds between two looks at the routers, so that short exclusions are seen."""

app = make_app()


@dataclass(slots=True)
class Tally:
    """What became of the requests so far."""

    num_requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Requests by kind and outcome."""
    failures: Counter[str] = field(default_factory=Counter)
    """Those that ended as they should not."""

    def add(self, ended: Sequence[Exchange]) -> None:
        """Requests that have ended."""
        for each in ended:
            name = f"{each.kind} {each.outcome_text}"
            self.num_requests += 1
            self.outcomes[name] += 1
            if not is_as_expected(each):
                self.failures[name] += 1


@dataclass(frozen=True, slots=True)
class SoakOutcome:
    """What came of one run."""

    seconds: float
    tally: Tally
    num_unsent: int
    courses: Sequence[Course]
    exclusions: Counter[str]
    engines_before: Mapping[str, EngineTotals]
    routers_after: Sequence[RouterSnapshot]

    def engines(self) -> dict[str, EngineTotals]:
        """What each replica's engine counted during the run."""
        return {
            replica: totals.since(self.engines_before.get(replica, NOTHING))
            for replica, totals in engine_totals(self.routers_after).items()
        }

    def faults(self) -> list[str]:
        """What must not be, in words."""
        faults = []
        if self.tally.failures:
            faults.append(f"requests ended as they should not: {counts_text(self.tally.failures)}")
        if self.num_unsent:
            faults.append(f"{self.num_unsent} requests were not sent, too many were outstanding: lower --rate")
        if not is_idle(self.routers_after):
            left = [row for row in outstanding(self.routers_after) if not row.is_nothing]
            faults.append(f"not idle at the end: {left}")
        return faults


@app.command()
@measurement
def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 30,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second, whatever becomes of them.")] = 8,
    sample_seconds: Annotated[float, typer.Option(min=1, help="Between two samples.")] = 10,
    csv_file: Annotated[Path, typer.Option("--csv", help="Every sample is written here at once.")] = Path("soak.csv"),
    seed: SeedOption = 1,
) -> Report:
    """Keep the server busy, and watch what grows."""
    console = notes_console()
    with running_server() as server, Recorder(csv_file) as recorder, Progress(console=console) as progress:
        soak = _Soak(server, recorder, progress)
        result = asyncio.run(soak.run(seconds=minutes * 60, rate=rate, sample_s=sample_seconds, seed=seed))
    return Report([course_table(result.courses)], result, result.faults(), lines=lines(result))


class _Soak:
    """The load, samples and looks of one run."""

    def __init__(self, server: Server, recorder: Recorder, progress: Progress) -> None:
        self._server = server
        self._recorder = recorder
        self._progress = progress
        self._exclusions = Exclusions()
        self._tally = Tally()
        self._stopped = asyncio.Event()

    async def run(self, *, seconds: float, rate: float, sample_s: float, seed: int) -> SoakOutcome:
        before = await self._server.wait_until_idle()
        traffic = SoakTraffic(self._server.run.model, seed=seed)
        load = Load(on_end=traffic.on_end)
        started_s = time.monotonic()
        async with self._server.client() as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(open_loop(client, traffic.requests(), load, rate=rate, stopped=self._stopped))
            tasks.create_task(self._watch())
            bar = self._progress.add_task("soaking", total=seconds)
            number = 0
            while (passed_s := time.monotonic() - started_s) < seconds:
                await self._sample(passed_s, load)
                self._progress.update(bar, completed=passed_s)
                number += 1
                await asyncio.sleep(max(0.0, min(number * sample_s, seconds) - (time.monotonic() - started_s)))
            self._stopped.set()
        after = await self._server.wait_until_idle()
        await self._sample(time.monotonic() - started_s, load)
        return SoakOutcome(
            seconds,
            self._tally,
            load.num_unsent,
            self._recorder.courses(),
            self._exclusions.counts,
            engine_totals(before),
            after,
        )

    async def _watch(self) -> None:
        while not self._stopped.is_set():
            self._exclusions.look(await self._server.routers())
            await asyncio.sleep(LOOK_S)

    async def _sample(self, at_s: float, load: Load) -> None:
        self._tally.add(load.take_ended())
        with contextlib.suppress(ServeApiError):  # a dashboard too busy to answer costs one sample, not the run
            routers, replicas = await self._server.routers(), await self._server.replicas()
            ranks = ranks_by_short_id(routers)
            memory = await asyncio.to_thread(memory_series, replicas, ranks, self._server.run.run_dir)
            self._recorder.record(at_s, memory | router_series(routers) | {"client outstanding": load.num_outstanding})


def course_table(courses: Sequence[Course]) -> Table:
    """Every series at a glance; slope and change are of the second half."""
    table = make_table(
        "Over time",
        left=("series", "course"),
        right=("first", "quarter", "half", "3 quarters", "last", "per hour", "change"),
    )
    for each in courses:
        is_memory = each.name.startswith(MEMORY)
        trend = (f"{each.slope_per_hour:+,.1f}" if is_memory else "", f"{each.change:+,.1f}")
        table.add_row(each.name, each.spark, *(f"{value:,.0f}" for value in each.quarters), *trend)
    return table


def lines(result: SoakOutcome) -> list[str]:
    """What the table does not say."""
    return [
        f"{result.tally.num_requests:,} requests in {result.seconds:.0f} s: {counts_text(result.tally.outcomes)}",
        f"Failed: {counts_text(result.tally.failures) or 'none'}",
        f"Exclusions seen, over all routers: {counts_text(result.exclusions) or 'none'}",
        *(
            f"Replica {replica}: {totals.prompt_tokens:,} prompt tokens, hit rate "
            f"{totals.cached_tokens / max(1, totals.prompt_tokens):.1%}"
            for replica, totals in result.engines().items()
        ),
    ]

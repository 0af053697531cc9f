"""One replica deviates: is it noticed, and are requests answered all the while? In a checkout of the repository:

warmroute serve parity.yaml

Each deviation takes effect when a replica is replaced, so its engine is killed, twice: the second time, its successor
is as it should be. A deviating chat template is a change of the model's folder; the others are made in the replica's
process (`tests/deviations.py`).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.harness import processes
from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.load import Load, open_loop, outcome_counts, short_requests
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import Server, running_server
from benchmarks.harness.snapshots import rank_to_replica
from loadtests.client.exchange import Exchange
from loadtests.report.console import notes_console
from loadtests.report.tables import counts_text, make_table, seconds_text
from serve_app.demo.model import CHAT_TEMPLATE, build_demo_model
from serve_app.messages.snapshot import RouterSnapshot, short_id
from serve_app.parity.verdicts import Verdict
from serve_app.settings.load import shipped_settings
from serve_app.settings.schema import ReplicaSettings

DEMO_SETTINGS = shipped_settings("cpu-demo.yaml")
MODEL, DEVIATION = Path(".warmroute/parity-model"), Path(".warmroute/deviation")
TEMPLATE = "chat_template.jinja"
DEVIATIONS = (Verdict.TEMPLATE, Verdict.BLOCK_SIZE, Verdict.SALT, Verdict.NO_CACHE)
RANK = 1
POLL_S = 0.2
TIMEOUT_S = 300.0
AFTERWARDS_S = 10.0

app = make_app()


@dataclass(frozen=True, slots=True)
class Alarm:
    """What came of one deviation; times in seconds."""

    deviation: Verdict
    found: tuple[str, ...]
    """What the routers made of it, each one's."""
    alarm_s: float | None
    """Time from when a router first knew the replica to when all had their verdict."""
    ok_s: float | None
    """The same time for its successor, which is as it should be."""
    answered_there: int
    """Requests that the deviating replica answered."""
    outcomes: dict[str, int]
    """Outcomes of all requests but those under way when an engine was killed."""

    def faults(self, *, period_s: float) -> list[str]:
        """What must not be, in words."""
        faults = []
        if set(self.found) != {self.deviation.value}:
            faults.append(f"{self.deviation}: the routers found {', '.join(self.found) or 'nothing'}")
        if self.alarm_s is None or self.alarm_s > period_s:
            faults.append(f"{self.deviation}: noticed after {seconds_text(self.alarm_s)}")
        if self.ok_s is None:
            faults.append(f"{self.deviation}: its successor is not ok")
        if not self.answered_there:
            faults.append(f"{self.deviation}: the replica answered nothing")
        if self.outcomes.keys() != {"complete"}:
            faults.append(f"{self.deviation}: requests ended otherwise: {counts_text(self.outcomes)}")
        return faults


@app.command("settings")
def settings_command() -> None:
    """Print the demo's settings, with the means to deviate, and make its model's folder."""
    build_demo_model(MODEL)
    print(yaml.safe_dump(_settings()), end="")  # noqa: T201  it is the output


def _settings() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(DEMO_SETTINGS.read_text())
    llm = settings["llm"]
    llm["model_loading_config"]["model_source"] = str(MODEL)
    llm["callback_config"] = {"callback_class": "tests.deviations.deviating_callback"}
    llm["engine_kwargs"]["middleware"] = ["tests.deviations.Meddler"]
    llm["runtime_env"]["env_vars"]["WARMROUTE_DEVIATION"] = str(DEVIATION.resolve())
    return settings


@app.command("run")
@measurement
def run_command(
    deviations: Annotated[list[Verdict] | None, typer.Argument(help="Default: all of them.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Short requests a second.")] = 2,
    model: Annotated[Path, typer.Option(help="The folder that the replicas load.")] = MODEL,
    seed: SeedOption = 1,
) -> Report:
    """Have the replica of rank 1 deviate in each way, one after the other."""
    chosen = tuple(deviations or DEVIATIONS)
    if not set(chosen) <= set(DEVIATIONS):
        raise MeasurementError(f"deviations are {', '.join(DEVIATIONS)}")
    console = notes_console()
    with running_server(full_headers=True) as server:
        alarms = asyncio.run(_run(server, chosen, console, model=model, rate=rate, seed=seed))
    period_s = ReplicaSettings().canary_period_s
    faults = [fault for alarm in alarms for fault in alarm.faults(period_s=period_s)]
    return Report([alarm_table(alarms)], {"alarms": alarms}, faults)


def alarm_table(alarms: Sequence[Alarm]) -> Table:
    """One line for each deviation."""
    table = make_table(
        "One of two replicas deviates",
        left=("deviation", "the routers' verdicts"),
        right=("alarm", "its successor ok", "requests", "answered there", "not complete"),
    )
    for alarm in alarms:
        num_requests = sum(alarm.outcomes.values())
        table.add_row(
            alarm.deviation,
            ", ".join(alarm.found),
            seconds_text(alarm.alarm_s),
            seconds_text(alarm.ok_s),
            f"{num_requests:,}",
            f"{alarm.answered_there:,}",
            f"{num_requests - alarm.outcomes.get('complete', 0):,}",
        )
    return table


async def _run(
    server: Server, deviations: Sequence[Verdict], console: Console, *, model: Path, rate: float, seed: int
) -> list[Alarm]:
    alarms = []
    async with server.client(keep_alive=False) as client:
        for deviation in deviations:
            load, stopped = Load(), asyncio.Event()
            requests = short_requests(server.run.model, seed=seed, kind="short")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(open_loop(client, requests, load, rate=rate, stopped=stopped))
                experiment = _Deviation(server, deviation, load, console, model=model)
                try:
                    await experiment.run()
                finally:
                    stopped.set()
            alarms.append(experiment.alarm())
    return alarms


@dataclass(slots=True)
class _Seen:
    """A new replica in the routers' eyes."""

    replica_id: str
    verdicts: tuple[str, ...]
    seconds: float | None
    """Seconds until all had the verdicts that were waited for; None if they never had."""


class _Deviation:
    """One deviation, under load."""

    def __init__(self, server: Server, deviation: Verdict, load: Load, console: Console, *, model: Path) -> None:
        self._server = server
        self._deviation = deviation
        self._load = load
        self._console = console
        self._template = model / TEMPLATE
        self._kills_s: list[float] = []
        self._seen: list[_Seen] = []

    async def run(self) -> None:
        """Replace the replica by one that deviates, and that by one that does not."""
        self._prepare(self._deviation)
        try:
            self._seen.append(
                await self._replace(until=lambda verdicts: all(Verdict(each).is_broken for each in verdicts))
            )
        finally:
            self._prepare(None)
        await asyncio.sleep(AFTERWARDS_S)
        self._seen.append(await self._replace(until=_is_well))

    def alarm(self) -> Alarm:
        """What came of it."""
        deviating, successor = self._seen
        exchanges = [each for each in self._load.exchanges if not self._was_under_way(each)]
        return Alarm(
            deviation=self._deviation,
            found=deviating.verdicts,
            alarm_s=deviating.seconds,
            ok_s=successor.seconds,
            answered_there=sum(each.replica == deviating.replica_id and each.is_complete for each in exchanges),
            outcomes=dict(outcome_counts(exchanges)),
        )

    def _was_under_way(self, exchange: Exchange) -> bool:
        return any(exchange.started_s <= kill_s <= exchange.ended_s for kill_s in self._kills_s)

    def _prepare(self, deviation: Verdict | None) -> None:
        """What the next replica to start finds."""
        self._template.unlink(missing_ok=True)
        DEVIATION.unlink(missing_ok=True)
        if deviation is Verdict.TEMPLATE:
            self._template.write_text("{{- '<|im_start|>system\\n' -}}It is a good day.<|im_end|>\n" + CHAT_TEMPLATE)
        elif deviation is not None:
            DEVIATION.write_text(deviation)

    async def _replace(self, *, until: Callable[[Sequence[str]], bool]) -> _Seen:
        dead = next((rank_to_replica(each).get(RANK) for each in await self._server.routers()), None)
        if dead is None:
            raise MeasurementError(f"no replica has rank {RANK}: is the server ready, with two replicas?")
        await self._kill(dead)
        deadline_s, first_s, found = time.monotonic() + TIMEOUT_S, None, _Seen("", (), None)
        while time.monotonic() < deadline_s:
            await asyncio.sleep(POLL_S)
            routers = await self._server.routers()
            replica_id, verdicts = _successor(routers, dead)
            if not replica_id:
                continue
            first_s = first_s or time.monotonic()
            found = _Seen(replica_id, verdicts, None)
            if len(verdicts) == len(routers) and until(verdicts):
                found.seconds = time.monotonic() - first_s
                break
        self._console.print(f"Replica {short_id(found.replica_id)}: {', '.join(found.verdicts)}")
        return found

    async def _kill(self, replica_id: str) -> None:
        pid = next(
            (each.pid for each in await self._server.replicas() if each.replica_id == short_id(replica_id)), None
        )
        if pid is None:
            raise MeasurementError(f"Serve does not list replica {short_id(replica_id)} with a process")
        for engine in processes.engines(processes.actor(pid)):
            engine.kill()
        self._kills_s.append(time.monotonic())
        self._console.print(f"Killed the engine of replica {short_id(replica_id)}, to be replaced: {self._deviation}")


def _is_alarm(verdicts: Sequence[str]) -> bool:
    return all(Verdict(each).is_broken for each in verdicts)


def _is_well(verdicts: Sequence[str]) -> bool:
    return set(verdicts) == {Verdict.OK}


def _successor(routers: Sequence[RouterSnapshot], dead: str) -> tuple[str, tuple[str, ...]]:
    """The replica that has the rank now, and what each router that knows it makes of it."""
    found = [
        (replica_id, replica.parity)
        for router in routers
        for replica_id, replica in router.replicas.items()
        if replica.rank == RANK and replica_id != dead
    ]
    return (found[0][0] if found else ""), tuple(verdict for _, verdict in found)

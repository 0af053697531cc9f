"""What does watching cost? CPU time of routers and replicas with everything that observes on, against all of it off.

Applications of one replica each on one cluster get the same requests at the same time, so that whatever else the
machine does is the same for all. One follows KV events, logs each request, has a shadow policy, and is read by the
operators' application; another does nothing of it that can be switched off. `--control` adds one that again does
nothing of it: by how much the comparison itself is off.
Engines should be simulated ones: a real one on CPU takes so much more time that any cost would vanish in it. Where the
settings have several replicas, the one has the cache of all, as it gets the prompts of all.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Annotated, NamedTuple

import httpx
import psutil
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.load import Load, open_loop, outcome_counts
from benchmarks.harness.processes import cpu_s
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import own_server
from loadtests.client.exchange import TIMEOUT_S, ClientRequest
from loadtests.client.turn_request import interleaved_turns
from loadtests.report.console import notes_console
from loadtests.report.intervals import estimate_text, ratio
from loadtests.report.tables import counts_text, make_table
from serve_app.control.serve_api import ServeApi
from serve_app.control.serve_config import ROUTER_DEPLOYMENT, application_config, replica_deployment
from serve_app.local.cluster import num_replicas
from serve_app.settings import vllm_options
from serve_app.settings.load import load_settings
from serve_app.settings.schema import Settings

OPEN_SESSIONS = 64
"""Sessions at a time, whose turns are sent in random order."""
SETTLE_S = 2.0
"""Seconds after the last answer, for what is told and counted once a second."""
SHADOW = "round_robin"
PREFILL_TOKENS_PER_S = 200_000.0
"""Prefill speed of a simulated engine."""

app = make_app()


@dataclass(frozen=True, slots=True)
class Target:
    """One of the applications."""

    url: str
    role_to_processes: Mapping[str, Sequence[psutil.Process]]

    def cpu_s(self) -> "Cpu":
        """Used so far."""
        return Cpu(*(sum(map(cpu_s, self.role_to_processes[role])) for role in Cpu._fields))


class Cpu(NamedTuple):
    """Seconds, by who used them."""

    routers: float
    replica: float
    engine: float


class Way(StrEnum):
    """What one of the applications does."""

    ALL = "everything"
    NOTHING = "nothing"
    CONTROL = "control"
    """Nothing once more."""


@app.command()
@measurement
def main(
    config: Annotated[Path, typer.Argument(help="The settings of the application.")],
    *,
    pairs: Annotated[int, typer.Option(min=2, help="Pairs of stretches, with and without at the same time.")] = 12,
    number: Annotated[int, typer.Option("--requests", min=1, help="Requests of a stretch.")] = 100,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second, of each application.")] = 8,
    control: Annotated[bool, typer.Option("--control", help="Also an application with nothing once more.")] = False,
    seed: SeedOption = 1,
) -> Report:
    """Compare the CPU seconds of a request."""
    console = notes_console()
    ways = (Way.ALL, Way.NOTHING, *((Way.CONTROL,) if control else ()))
    settings = vllm_options.with_absolute_model_path(load_settings(config))
    coming = interleaved_turns(settings.model_id, num_open=OPEN_SESSIONS, seed=seed)
    stretches = [list(islice(coming, number)) for _ in range(1 + pairs)]
    with _running(settings, ways) as comparison:
        costs = asyncio.run(comparison.costs(stretches, rate, console))
    seconds = {way: [used._asdict() for used in measured] for way, measured in costs.items()}
    records = {"engine": settings.engine, "requests": number, "rate": rate, "cpu_s": seconds}
    return Report([_cost_table(costs, number, settings)], records)


@contextlib.contextmanager
def _running(settings: Settings, ways: Sequence[Way]) -> Iterator["_Comparison"]:
    """An application for each of the ways, and the operators' one."""
    alone = _alone(settings)
    first, *others = (_application(alone, way) for way in ways)
    others_configs = [application_config(other) for other in others]
    with own_server(first, beside=others_configs) as run:
        api = ServeApi(run.dashboard_url)
        yield _Comparison(
            {
                way: Target(
                    run.url if each is first else f"http://127.0.0.1:{settings.http.port}{each.route_prefix}",
                    _roles(api, each.name),
                )
                for way, each in zip(ways, (first, *others), strict=True)
            }
        )


def _alone(settings: Settings) -> Settings:
    """Settings with one replica in place of all, which gets their cache."""
    deployment = {**settings.llm.get("deployment_config", {}), "num_replicas": 1}
    engine = dict(settings.llm.get("engine_kwargs", {}))
    if "num_gpu_blocks_override" in engine:
        engine["num_gpu_blocks_override"] *= num_replicas(settings)
    # A simulated prefill costs no CPU however long it takes, and the rate shall not pile up at one replica.
    engine_model = settings.engine_model.model_copy(update={"prefill_tokens_per_s": PREFILL_TOKENS_PER_S})
    llm = {**settings.llm, "deployment_config": deployment, "engine_kwargs": engine}
    ops = settings.ops.model_copy(update={"enabled": True, "history": None, "applications": [settings.name]})
    return settings.model_copy(update={"engine_model": engine_model, "llm": llm, "ops": ops})


def _application(settings: Settings, way: Way) -> Settings:
    """The first application has the settings' own name and path, and is the one that the operators' one reads."""
    is_on = way is Way.ALL
    place = {} if is_on else {"name": way.value, "route_prefix": f"/{way}"}
    told = {"kv_events": is_on, "log_requests": is_on}
    return settings.model_copy(
        update={
            **place,
            "routing": settings.routing.model_copy(update={"shadow_policies": [SHADOW] if is_on else []}),
            "replicas": settings.replicas.model_copy(update=told),
        }
    )


def _processes(api: ServeApi, application: str, *, deployment: str = "") -> list[psutil.Process]:
    details = api.application(application)
    assert details is not None, "it was waited for"
    return [
        psutil.Process(replica["pid"])
        for name, each in details["deployments"].items()
        for replica in each["replicas"]
        if name.startswith(deployment)
    ]


def _roles(api: ServeApi, application: str) -> dict[str, list[psutil.Process]]:
    replicas = _processes(api, application, deployment=replica_deployment(""))
    return {
        "routers": _processes(api, application, deployment=ROUTER_DEPLOYMENT),
        "replica": replicas,
        "engine": [child for replica in replicas for child in replica.children(recursive=True)],
    }


Costs = dict[Way, list[Cpu]]
"""CPU seconds of each stretch."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    way_to_target: Mapping[Way, Target]

    async def costs(self, stretches: Sequence[Sequence[ClientRequest]], rate: float, console: Console) -> Costs:
        """The first stretch warms up and is not among them."""
        costs: Costs = {way: [] for way in self.way_to_target}
        with Progress(console=console) as progress:
            for stretch in progress.track(stretches, description="Stretches"):
                measured = await asyncio.gather(
                    *(_cost_of(target, stretch, rate) for target in self.way_to_target.values())
                )
                for way, each in zip(self.way_to_target, measured, strict=True):
                    costs[way].append(each)
        return {way: measured[1:] for way, measured in costs.items()}


async def _cost_of(target: Target, stretch: Sequence[ClientRequest], rate: float) -> Cpu:
    """The CPU time of one stretch, sent at a steady rate."""
    load, stopped, before_s = Load(), asyncio.Event(), target.cpu_s()

    def coming() -> Iterator[ClientRequest]:
        yield from stretch[:-1]
        stopped.set()
        yield stretch[-1]

    async with httpx.AsyncClient(base_url=target.url, timeout=TIMEOUT_S, trust_env=False) as client:
        await open_loop(client, coming(), load, rate=rate, stopped=stopped)
        await asyncio.sleep(SETTLE_S)
    if len(load.exchanges) < len(stretch) or not all(exchange.is_complete for exchange in load.exchanges):
        raise MeasurementError(
            f"not every request was answered by {target.url}: {counts_text(outcome_counts(load.exchanges))}"
        )
    return Cpu(*(after - before for after, before in zip(target.cpu_s(), before_s, strict=True)))


def _cost_table(costs: Costs, number: int, settings: Settings) -> Table:
    note = "" if settings.engine == "vllm" else f", {settings.engine} engines"
    table = make_table(
        f"CPU, ms a request{note}",
        left=("on",),
        right=(*Cpu._fields, "all", "on / off", "at most (95 %, paired)"),
    )
    off = list(map(sum, costs[Way.NOTHING]))
    for way, measured in costs.items():
        estimate = ratio(list(map(sum, measured)), off)
        assert estimate.margin is not None, "of two pairs and more"
        ms = [f"{1000 * fmean(used) / number:.2f}" for used in (*zip(*measured, strict=True), list(map(sum, measured)))]
        quotient = estimate_text(estimate, ".3f"), f"{estimate.value + estimate.margin:.3f}"
        table.add_row(way.value, *ms, *(("", "") if way is Way.NOTHING else quotient))
    return table

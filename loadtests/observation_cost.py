"""What does watching cost? CPU time of routers and replicas with everything that observes on, against all of it off.

python -m loadtests.observation_cost configs/simulated.yaml --pairs 12

Two applications of one replica on one cluster get the same requests in turn. One follows KV events, logs each request,
has a shadow policy, and is read by the operators' application; the other does nothing of it that can be switched off,
and the operators' application stands still while it is measured. Engines should be simulated ones: a real one on CPU
takes so much more time that any cost would vanish in it.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

import httpx
import psutil
import typer
from rich.console import Console
from rich.progress import Progress

from loadtests.exchange import TIMEOUT_S, ClientRequest
from loadtests.live import JsonOption, SeedOption, fail, make_console, write_json
from loadtests.load import Load, open_loop, outcome_counts
from loadtests.replay.intervals import ratio
from loadtests.tables import counts_text, make_table
from loadtests.turn_request import interleaved_turns
from serve_app import llm_options, local_server
from serve_app.local_cluster import StartError
from serve_app.serve_api import ServeApi
from serve_app.serve_config import application_config
from serve_app.settings import OPS_APPLICATION, Settings, SettingsError, load_settings

PLAIN = "plain"
OPEN_SESSIONS = 64
"""Whose turns are sent in random order."""
SETTLE_S = 2.0
"""After the last answer, for what is told and counted once a second."""
SHADOW = "round_robin"
PREFILL_TOKENS_PER_S = 200_000.0
"""Of a simulated engine."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Target:
    """One of the two applications."""

    url: str
    processes: Sequence[psutil.Process]
    """Its routers and replicas, engines included."""

    def cpu_s(self) -> float:
        """Used so far."""
        times = [process.cpu_times() for process in self.processes]
        return sum(each.user + each.system for each in times)


class Pair(NamedTuple):
    """CPU seconds for the same requests."""

    with_s: float
    without_s: float


@app.command()
def main(
    config: Annotated[Path, typer.Argument(help="Of the application.")],
    pairs: Annotated[int, typer.Option(min=2, help="Of stretches with and without.")] = 12,
    number: Annotated[int, typer.Option("--requests", min=1, help="Of a stretch.")] = 100,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 8,
    seed: SeedOption = 1,
    json_file: JsonOption = None,
) -> None:
    """Compare the CPU seconds of a request."""
    console = make_console()
    try:
        settings = llm_options.with_absolute_model_path(load_settings(config))
        coming = interleaved_turns(settings.model_id, num_open=OPEN_SESSIONS, seed=seed)
        stretches = [list(islice(coming, number)) for _ in range(1 + pairs)]
        with _running(settings, console) as comparison:
            costs = asyncio.run(comparison.pairs(stretches, rate, console))
    except (SettingsError, StartError) as error:
        fail(str(error))
    _print(costs, number, settings, console)
    write_json(json_file, {"engine": settings.engine, "requests": number, "cpu_s": [each._asdict() for each in costs]})


@contextlib.contextmanager
def _running(settings: Settings, console: Console) -> Iterator["_Comparison"]:
    """Both applications, with one replica each, and the operators' one."""
    one = {**settings.llm, "deployment_config": {**settings.llm.get("deployment_config", {}), "num_replicas": 1}}
    # A simulated prefill costs no CPU however long it takes, and the rate shall not pile up at one replica.
    engine = settings.engine_model.model_copy(update={"prefill_tokens_per_s": PREFILL_TOKENS_PER_S})
    settings = settings.model_copy(update={"engine_model": engine})
    plain = settings.model_copy(update={"name": PLAIN, "route_prefix": f"/{PLAIN}", "llm": one})
    observed = settings.model_copy(
        update={
            "llm": one,
            "routing": settings.routing.model_copy(update={"shadow_policies": [SHADOW]}),
            "replicas": settings.replicas.model_copy(update={"kv_events": True, "log_requests": True}),
            "ops": settings.ops.model_copy(update={"enabled": True, "history": None}),
        }
    )
    beside = [application_config(plain)]
    with local_server.running(observed, console, threading.Event(), beside=beside) as run:
        assert run is not None, "nobody stops it"
        api = ServeApi(run.dashboard_url)
        (ops,) = _processes(api, OPS_APPLICATION)
        plain_url = f"http://127.0.0.1:{settings.http.port}/{PLAIN}"
        yield _Comparison(
            Target(run.url, _with_engines(_processes(api, settings.name))),
            Target(plain_url, _with_engines(_processes(api, PLAIN))),
            ops,
        )


def _processes(api: ServeApi, application: str) -> list[psutil.Process]:
    details = api.application(application)
    assert details is not None, "it was waited for"
    return [psutil.Process(replica["pid"]) for each in details["deployments"].values() for replica in each["replicas"]]


def _with_engines(actors: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [*actors, *(child for actor in actors for child in actor.children(recursive=True))]


@dataclass(frozen=True, slots=True)
class _Comparison:
    observed: Target
    plain: Target
    ops: psutil.Process
    """The operators' application, which reads both."""

    async def pairs(self, stretches: Sequence[Sequence[ClientRequest]], rate: float, console: Console) -> list[Pair]:
        """CPU seconds of each stretch, with and without; the first one warms up and is not among them."""
        costs = []
        with Progress(console=console) as progress:
            for number, stretch in enumerate(progress.track(stretches, description="Pairs")):
                if number % 2:
                    without_s = await self._without(stretch, rate)
                    with_s = await _cpu_s(self.observed, stretch, rate)
                else:
                    with_s = await _cpu_s(self.observed, stretch, rate)
                    without_s = await self._without(stretch, rate)
                costs.append(Pair(with_s, without_s))
        return costs[1:]

    async def _without(self, stretch: Sequence[ClientRequest], rate: float) -> float:
        self.ops.send_signal(signal.SIGSTOP)
        try:
            return await _cpu_s(self.plain, stretch, rate)
        finally:
            self.ops.send_signal(signal.SIGCONT)
            await asyncio.sleep(SETTLE_S)  # two stretches without an answer, and Serve would replace it


async def _cpu_s(target: Target, stretch: Sequence[ClientRequest], rate: float) -> float:
    """Of one stretch, sent at a steady rate."""
    load, stopped, before_s = Load(), asyncio.Event(), target.cpu_s()

    def coming() -> Iterator[ClientRequest]:
        yield from stretch[:-1]
        stopped.set()
        yield stretch[-1]

    async with httpx.AsyncClient(base_url=target.url, timeout=TIMEOUT_S, trust_env=False) as client:
        await open_loop(client, coming(), load, rate=rate, stopped=stopped)
        await asyncio.sleep(SETTLE_S)
    if len(load.exchanges) < len(stretch) or not all(each.is_complete for each in load.exchanges):
        raise StartError(
            f"not every request was answered by {target.url}: {counts_text(outcome_counts(load.exchanges))}"
        )
    return target.cpu_s() - before_s


def _print(costs: Sequence[Pair], number: int, settings: Settings, console: Console) -> None:
    note = "" if settings.engine == "vllm" else f", {settings.engine} engines"
    table = make_table(
        f"CPU of routers and replica, ms a request{note}", left=("pair",), right=("on", "off", "on / off")
    )
    for index, (with_s, without_s) in enumerate(costs, 1):
        row = (f"{1000 * with_s / number:.2f}", f"{1000 * without_s / number:.2f}", f"{with_s / without_s:.3f}")
        table.add_row(str(index), *row)
    console.print(table)
    estimate = ratio([each[0] for each in costs], [each[1] for each in costs])
    assert estimate.margin is not None, "of two pairs and more"
    high = estimate.value + estimate.margin
    console.print(f"on / off: {estimate.value:.3f} ±{estimate.margin:.3f}, so at most {high:.3f} (95 %, paired)")


if __name__ == "__main__":
    app()

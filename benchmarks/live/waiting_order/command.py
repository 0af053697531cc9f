"""`python -m benchmarks waiting_order`. Thin: parse, run, print."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.running_server import LiveError
from benchmarks.live.waiting_order import cost, live
from benchmarks.live.waiting_order.figures import figures, table
from benchmarks.live.waiting_order.replayed import Fleet, replayed
from benchmarks.live.waiting_order.traffic import make_traffic
from loadtests.replay.console import at_least, fail
from loadtests.replay.options import read_numbers
from loadtests.replay.workload import Workload
from serve_app.settings.load import SettingsError, load_settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
LOADS = "0.6,0.8,1.0,1.2,1.3"


@app.command("live")
def on_servers(
    config: Annotated[Path, typer.Argument(help="Settings with a model and vLLM's options.")],
    *,
    loads: Annotated[str, typer.Option(help="New prompt tokens a second over what a server computes.")] = LOADS,
    prompts: Annotated[int, typer.Option(callback=at_least(5), help="For each load.")] = 200,
    seed: int = 1,
    logs: Annotated[Path | None, typer.Option(help="Where the servers log.")] = None,
) -> None:
    """Two vLLM servers, one for each order, get the same prompts at the same times."""
    try:
        settings = load_settings(config)
        shares = read_numbers("--loads", loads)
        with tempfile.TemporaryDirectory() as folder, live.running(settings, logs or Path(folder)) as urls:
            capacity = asyncio.run(live.capacity_tokens_per_s(urls, settings.model_id))
            typer.echo(f"{capacity:,.0f} new prompt tokens a second in each of {len(urls)} servers; {prompts} prompts")
            rows = []
            for load in shares:
                asks = make_traffic(num_prompts=prompts, tokens_per_s=load * capacity, seed=seed)
                answers = asyncio.run(live.ask_all(urls, settings.model_id, asks))
                rows += [(f"{load:g}", order, figures(each)) for order, each in answers.items()]
                typer.echo(table(rows[-len(urls) :]))
    except (SettingsError, LiveError, ValueError) as error:
        fail(str(error))
    typer.echo(table(rows))


@app.command("replay")
def in_virtual_time(
    trace: Annotated[Path, typer.Argument(help="As `warmroute replay` takes it.")],
    *,
    loads: str = LOADS,
    seeds: Annotated[int, typer.Option(callback=at_least(1))] = 3,
    replicas: Annotated[int, typer.Option(callback=at_least(1))] = 8,
    kv_tokens: Annotated[int, typer.Option(callback=at_least(1))] = 500_000,
    policy: str = "prefix_affinity",
    jobs: Annotated[int, typer.Option(callback=at_least(1))] = os.cpu_count() or 1,
) -> None:
    """A trace through the production router and simulated engines, with each order."""
    workload = Workload(trace, is_closed_loop=False, is_spread_evenly=False, think_s=1, num_copies=1, tenants=())
    try:
        rows = replayed(
            workload,
            Fleet(replicas, kv_tokens, policy),
            loads=read_numbers("--loads", loads),
            orders=live.ORDERS,
            num_seeds=seeds,
            num_jobs=jobs,
        )
    except ValueError as error:
        fail(str(error))
    typer.echo(table(rows))


@app.command("cost")
def of_a_choice() -> None:
    """How long vLLM's scheduler takes to choose among so many."""
    for num_waiting in (1, 64, 256, 1024):
        typer.echo(cost.cost_line(num_waiting))

"""What the order of waiting in a replica is worth, on servers and in virtual time, and what a choice costs."""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.report import VIRTUAL_TIME, Report
from benchmarks.live.waiting_order import cost, live
from benchmarks.live.waiting_order.figures import figures, records, table
from benchmarks.live.waiting_order.replayed import Fleet, replayed
from benchmarks.live.waiting_order.traffic import make_traffic
from loadtests.replay.options import read_numbers
from loadtests.replay.workload import ReplayWorkload
from loadtests.report.console import at_least, notes_console
from serve_app.settings.load import load_settings

LOADS = "0.6,0.8,1.0,1.2,1.3"
NUMS_WAITING = (1, 64, 256, 1024)
LoadsOption = Annotated[str, typer.Option(help="New prompt tokens a second over what a server computes.")]

app = make_app()


@app.command("live")
@measurement
def on_servers(
    config: Annotated[Path, typer.Argument(help="Settings with a model and vLLM's options.")],
    *,
    loads: LoadsOption = LOADS,
    prompts: Annotated[int, typer.Option(callback=at_least(5), help="Prompts sent at each load.")] = 200,
    seed: SeedOption = 1,
    logs: Annotated[Path | None, typer.Option(help="The folder of the servers' logs.")] = None,
) -> Report:
    """Send the same prompts at the same times to two vLLM servers, one for each order."""
    settings, shares, console = load_settings(config), read_numbers("--loads", loads), notes_console()
    rows = []
    with tempfile.TemporaryDirectory() as folder, live.running(settings, logs or Path(folder)) as urls:
        capacity = asyncio.run(live.capacity_tokens_per_s(urls, settings.model_id))
        for load in shares:
            with console.status(f"Load {load:g}"):
                asks = make_traffic(num_prompts=prompts, tokens_per_s=load * capacity, seed=seed)
                answers = asyncio.run(live.ask_all(urls, settings.model_id, asks))
            rows += [(f"{load:g}", order, figures(answered)) for order, answered in answers.items()]
    line = f"{capacity:,.0f} new prompt tokens a second in each of {len(live.ORDERS)} servers; {prompts} prompts"
    return Report([table(rows)], {"rows": records(rows), "capacity_tokens_per_s": capacity}, lines=[line])


@app.command("replay")
@measurement
def in_virtual_time(
    trace: Annotated[Path, typer.Argument(help="A trace that `warmroute replay` reads.")],
    *,
    loads: LoadsOption = LOADS,
    seeds: Annotated[int, typer.Option(callback=at_least(1), help="Runs of each case, with seeds from 1 on.")] = 3,
    replicas: Annotated[int, typer.Option(callback=at_least(1), help="Number of replicas.")] = 8,
    kv_tokens: Annotated[int, typer.Option(callback=at_least(1), help="KV capacity of each replica.")] = 500_000,
    policy: Annotated[str, typer.Option(help="The routing policy.")] = "prefix_affinity",
    jobs: Annotated[int, typer.Option(callback=at_least(1), help="Processes.")] = os.cpu_count() or 1,
) -> Report:
    """Replay a trace through the production router and simulated engines, with each order."""
    workload = ReplayWorkload(trace, is_closed_loop=False, is_spread_evenly=False, think_s=1, num_copies=1, tenants=())
    rows = replayed(
        workload,
        Fleet(replicas, kv_tokens, policy),
        loads=read_numbers("--loads", loads),
        orders=live.ORDERS,
        num_seeds=seeds,
        num_jobs=jobs,
    )
    return Report([table(rows)], {"rows": records(rows)}, caveats=VIRTUAL_TIME)


@app.command("cost")
@measurement
def of_a_choice() -> Report:
    """Measure how long vLLM's scheduler takes to choose among waiting requests."""
    costs_s = {num_waiting: cost.choice_costs_s(num_waiting) for num_waiting in NUMS_WAITING}
    return Report([cost.cost_table(costs_s)], {"costs_s": costs_s})

"""`warmroute replay`. Thin: parse, run, print."""

import os
from pathlib import Path
from typing import Annotated

import typer

from loadtests.replay import report, report_html
from loadtests.replay.engine import EngineOptions
from loadtests.replay.experiment import PolicyComparison, ReplayExperiment, compare, num_runs
from loadtests.replay.generators import GENERATORS
from loadtests.replay.options import read_change, read_policies, read_scale, read_tenants
from loadtests.replay.results import TTFT_LIMIT_S
from loadtests.replay.workload import ReplayWorkload
from loadtests.report.console import at_least, check_output, fail, make_console, progress
from loadtests.report.origin import command_line
from serve_app.settings.schema import ReplicaSettings, WaitingOrderName

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
NUM_CORES = os.cpu_count() or 1
WAITING_ORDER = ReplicaSettings().waiting_order
TRACE_HELP = (
    "Mooncake's format or sessions of blocks, JSON lines, plain or .zst; or the name of a generator: "
    f"{', '.join(GENERATORS)}."
)


@app.command()
def replay(  # noqa: PLR0913  one for each option
    trace: Annotated[Path, typer.Argument(help=TRACE_HELP)],
    *,
    policy: Annotated[str, typer.Option(help="Policies, separated by commas; the others are compared with the first.")],
    replicas: Annotated[
        int | None, typer.Option(callback=at_least(1), help="Number of replicas: 8, or what a generator is meant for.")
    ] = None,
    kv_tokens: Annotated[
        int | None,
        typer.Option(
            callback=at_least(1), help="KV cache of each replica: 500,000 tokens, or what a generator is meant for."
        ),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option(
            callback=at_least(0.001),
            help="All prompt tokens a second over what all replicas can prefill, 0.8 by default; not for generators.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            callback=at_least(0.001), help="A factor on a generator's own arrivals a second; only for generators."
        ),
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="Further loads, separated by commas.")] = None,
    routers: Annotated[int, typer.Option(callback=at_least(1), help="Number of routers.")] = 1,
    lag_ms: Annotated[
        float, typer.Option(callback=at_least(0), help="Milliseconds that messages to routers travel.")
    ] = 5.0,
    closed_loop: Annotated[
        bool, typer.Option("--closed-loop", help="A turn comes only after the answer before, by the recorded gap.")
    ] = False,
    seeds: Annotated[int, typer.Option(callback=at_least(1), help="Runs of each case, with seeds from 1 on.")] = 1,
    ttft_limit: Annotated[
        float, typer.Option(callback=at_least(0), help="Seconds; a later first token is not good.")
    ] = TTFT_LIMIT_S,
    even: Annotated[bool, typer.Option("--even", help="Spread a stamp's requests evenly, not at random.")] = False,
    think_s: Annotated[
        float, typer.Option(callback=at_least(0), help="Seconds between turns, where the trace does not say.")
    ] = 1.0,
    copies: Annotated[
        int, typer.Option(callback=at_least(1), help="Copies of every session, in a trace of sessions.")
    ] = 1,
    tenants: Annotated[
        str | None, typer.Option(help="Tenants' weights, as 5,3,1, or FILE:MODEL of ServeGen's summary.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option(help="A join, leave or crash of a rank, as crash:3@120; may be repeated.")
    ] = None,
    kv_events: Annotated[
        bool,
        typer.Option(
            "--kv-events", help="Engines tell of every block they store and evict, so that routers need not estimate."
        ),
    ] = False,
    kv_lag_ms: Annotated[
        float | None,
        typer.Option(
            callback=at_least(0), help="Milliseconds that KV events travel, if not as long as other messages."
        ),
    ] = None,
    told_kv_tokens: Annotated[
        int | None, typer.Option(callback=at_least(1), help="KV cache that routers are told of, if not the true one.")
    ] = None,
    host_kv_tokens: Annotated[
        int,
        typer.Option(callback=at_least(0), help="Tokens of a second tier in each replica's host memory, with copies."),
    ] = 0,
    told_host_kv_tokens: Annotated[
        int | None,
        typer.Option(
            callback=at_least(0), help="Size of the second tier that routers are told, if not the true one; 0 for none."
        ),
    ] = None,
    waiting_order: Annotated[
        WaitingOrderName,
        typer.Option(help="The order in which prompts that wait in an engine start, as in the settings."),
    ] = WAITING_ORDER,
    jobs: Annotated[int, typer.Option(callback=at_least(1), help="Number of processes.")] = NUM_CORES,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every number to this file.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a report with charts to this file.")] = None,
) -> None:
    """Replay TRACE in virtual time through the production router and simulated engines, and compare policies."""
    try:
        check_output("--json", json_file)
        check_output("--html", html_file)
        workload = ReplayWorkload(
            trace,
            is_closed_loop=closed_loop,
            is_spread_evenly=even,
            think_s=think_s,
            num_copies=copies,
            tenants=read_tenants(tenants),
            rate=rate or 1.0,
        )
        scale = read_scale(workload, replicas=replicas, kv_tokens=kv_tokens, load=load, rate=rate, sweep=sweep)
        experiment = ReplayExperiment(
            workload,
            policies=read_policies(policy),
            loads=scale.loads,
            seeds=tuple(range(1, seeds + 1)),
            num_replicas=scale.num_replicas,
            num_routers=routers,
            delay_s=lag_ms / 1000,
            ttft_limit_s=ttft_limit,
            engine=EngineOptions(
                kv_capacity_tokens=scale.kv_tokens, host_capacity_tokens=host_kv_tokens, waiting_order=waiting_order
            ),
            changes=tuple(map(read_change, change or ())),
            is_telling=kv_events,
            kv_delay_s=None if kv_lag_ms is None else kv_lag_ms / 1000,
            told_kv_tokens=told_kv_tokens,
            told_host_tokens=told_host_kv_tokens,
        )
        with progress(num_runs(experiment)) as on_done:
            comparison = compare(experiment, num_jobs=jobs, on_done=on_done)
    except ValueError as error:
        fail(str(error))
    _print(comparison)
    _write(comparison, json_file=json_file, html_file=html_file)


def _write(comparison: PolicyComparison, *, json_file: Path | None, html_file: Path | None) -> None:
    if json_file is not None:
        json_file.write_text(report.as_json(comparison, command=command_line()))
    if html_file is not None:
        html_file.write_text(report_html.as_html(comparison, command=command_line()))


def _print(comparison: PolicyComparison) -> None:
    console = make_console()
    console.print(report.headline(comparison))
    for table in report.comparison_tables(comparison):
        console.print(table.as_rich())
    console.print(report.bounds_text(comparison))

"""Compare, size and audit: `demo`, `calibrate`, `replay`, `plan`, `bench`, `audit`."""

from pathlib import Path
from typing import Annotated

import typer

from warmroute.local_run import local_run, noted_run
from warmroute.terminal import PASSED_ON, POLICIES, check_policies, console, fail

group = typer.Typer()
PANEL = "Compare, size and audit"


@group.command(rich_help_panel=PANEL)
def demo(
    texts: Annotated[Path | None, typer.Option(help="Conversations, OpenAI messages as JSON Lines (.zst too).")] = None,
    tools: Annotated[Path | None, typer.Option(help="Tool definitions for all of them, a JSON array.")] = None,
    sessions: Annotated[int | None, typer.Option(min=1, help="Number of conversations, from the first.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Conversations at a time.")] = 8,
    repetitions: Annotated[int, typer.Option(min=1, help="Runs of each policy.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 8,
    policies: Annotated[list[str] | None, typer.Option("--policy", help=f"Two or more of {POLICIES}.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for every measurement, as JSON.")] = None,
) -> None:
    """Compare policies on the running server: the same conversations through each in turn, caches reset between."""
    from serve_app.demo import command

    check_policies("--policy", policies or [])
    run = local_run()
    plan = command.DemoPlan(
        texts=texts,
        tools=tools,
        sessions=sessions,
        concurrency=concurrency,
        repetitions=repetitions,
        max_tokens=max_tokens,
        policies=policies or ["round_robin", "prefix_affinity"],
    )
    try:
        command.compare(plan, run, console, json_file)
    except command.FAILURES as error:
        fail(str(error))


@group.command(rich_help_panel=PANEL)
def calibrate(
    *,
    url: Annotated[str | None, typer.Option(help="Address of a replica; default: one of the local cluster.")] = None,
    replica: Annotated[str | None, typer.Option(help="The short id of a replica of the local cluster.")] = None,
    longest: Annotated[
        int, typer.Option(min=64, help="Tokens of the longest prompt, which has to fit into one step.")
    ] = 2048,
    streams: Annotated[int, typer.Option(min=4, help="The largest number of concurrent answers.")] = 16,
    repetitions: Annotated[int, typer.Option(min=1, help="Repetitions of each measurement; the median counts.")] = 5,
) -> None:
    """Measure how long the steps of an idle replica take; print it as settings (engine_model)."""
    from serve_app.calibration import command

    run = None if url else noted_run()
    plan = command.CalibrationPlan(longest=longest, streams=streams, repetitions=repetitions)
    try:
        command.calibrate(plan, run, console, url=url, replica=replica)
    except command.FAILURES as error:
        fail(str(error))


@group.command(context_settings=PASSED_ON, add_help_option=False, rich_help_panel=PANEL)
def replay(context: typer.Context) -> None:
    """Compare policies by replaying a request trace in virtual time, without GPU or server; see `replay --help`."""
    from loadtests.replay.command import app

    app(context.args, prog_name=context.command_path)


@group.command(context_settings=PASSED_ON, add_help_option=False, rich_help_panel=PANEL)
def plan(context: typer.Context) -> None:
    """Find how many replicas, with which KV size, meet a TTFT target, by replaying a trace; see `plan --help`."""
    from loadtests.replay.plan_command import app

    app(context.args, prog_name=context.command_path)


@group.command(context_settings=PASSED_ON, add_help_option=False, rich_help_panel=PANEL)
def bench(context: typer.Context) -> None:
    """Compare routings, including Ray's own, over loads, on a cluster started for it; see `bench --help`."""
    from loadtests.bench.command import app

    app(context.args, prog_name=context.command_path)


@group.command(context_settings=PASSED_ON, add_help_option=False, rich_help_panel=PANEL)
def audit(context: typer.Context) -> None:
    """Say why the prompts of a log share less of their prefixes than they could, and the cost; see `audit --help`."""
    from serve_app.audit.command import app

    app(context.args, prog_name=context.command_path)

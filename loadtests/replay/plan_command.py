"""`warmroute plan`. Thin: parse, run, print."""

import os
from pathlib import Path
from typing import Annotated

import typer

from loadtests.replay import sizing_report
from loadtests.replay.engine import EngineOptions
from loadtests.replay.experiment import ReplayExperiment
from loadtests.replay.options import read_numbers, read_policies
from loadtests.replay.results import TTFT_LIMIT_S
from loadtests.replay.sizing import ReplicaSize, SizingAnswer, SizingQuestion, answer_all
from loadtests.replay.workload import ReplayWorkload, own_pace
from loadtests.report.console import at_least, check_output, fail, make_console, progress
from loadtests.report.origin import command_line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
NUM_CORES = os.cpu_count() or 1


@app.command()
def plan(  # noqa: PLR0913  one for each option
    trace: Annotated[Path, typer.Argument(help="Mooncake's format or sessions of blocks, JSON lines, plain or .zst.")],
    *,
    ttft_p90: Annotated[
        float, typer.Option(callback=at_least(0.001), help="The target: seconds for nine of ten first tokens.")
    ],
    scale: Annotated[float, typer.Option(callback=at_least(0.001), help="A factor on the trace's own pace.")] = 1.0,
    rps: Annotated[
        float | None, typer.Option(callback=at_least(0.001), help="Requests a second, instead of the trace's own.")
    ] = None,
    kv_tokens: Annotated[str, typer.Option(help="KV sizes to try.")] = "250000,500000,1000000,2000000",
    max_replicas: Annotated[int, typer.Option(callback=at_least(1), help="The most replicas to try.")] = 64,
    host_tokens: Annotated[
        int, typer.Option(callback=at_least(0), help="Tokens of a tier in host memory; 0 to try none.")
    ] = 2_000_000,
    host_gb_per_s: Annotated[float, typer.Option(callback=at_least(0.001), help="Speed of reading it back.")] = 20.0,
    kib_per_token: Annotated[
        float, typer.Option(callback=at_least(0.001), help="KV of a token; 128 for Llama 3.1 8B.")
    ] = 128.0,
    policy: Annotated[str, typer.Option(help="How requests are routed.")] = "prefix_affinity",
    closed_loop: Annotated[
        bool, typer.Option("--closed-loop", help="A turn comes only after the answer before, by the recorded gap.")
    ] = False,
    think_s: Annotated[
        float, typer.Option(callback=at_least(0), help="Seconds between turns, where the trace does not say.")
    ] = 1.0,
    copies: Annotated[
        int, typer.Option(callback=at_least(1), help="Copies of every session, in a trace of sessions.")
    ] = 1,
    seeds: Annotated[int, typer.Option(callback=at_least(1), help="Runs of each trial, with seeds from 1 on.")] = 1,
    jobs: Annotated[int, typer.Option(callback=at_least(1), help="Number of processes.")] = NUM_CORES,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every number to this file.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a report with charts to this file.")] = None,
) -> None:
    """Find the fewest replicas that meet a target for TRACE at its own pace, for several KV sizes, by replaying it."""
    try:
        check_output("--json", json_file)
        check_output("--html", html_file)
        workload = ReplayWorkload(
            trace, is_closed_loop=closed_loop, is_spread_evenly=False, think_s=think_s, num_copies=copies, tenants=()
        )
        experiment = ReplayExperiment(
            workload,
            policies=read_policies(policy)[:1],
            loads=(),
            seeds=tuple(range(1, seeds + 1)),
            num_replicas=1,
            num_routers=1,
            delay_s=0.005,
            ttft_limit_s=TTFT_LIMIT_S,
            engine=EngineOptions(host_tokens_per_s=host_gb_per_s * 1e9 / (kib_per_token * 1024)),
        )
        pace = own_pace(trace, scale=scale, requests_per_s=rps)
        question = SizingQuestion(experiment, pace, ttft_p90, max_replicas)
        kv_sizes = [round(number) for number in read_numbers("--kv-tokens", kv_tokens)]
        sizes = [ReplicaSize(kv, host) for kv in kv_sizes for host in sorted({0, host_tokens})]
        with progress(len(sizes)) as on_done:
            answers = answer_all(question, sizes, num_jobs=jobs, on_done=on_done)
    except ValueError as error:
        fail(str(error))
    _print(question, answers)
    _write(question, answers, json_file=json_file, html_file=html_file)


def _print(question: SizingQuestion, answers: list[SizingAnswer]) -> None:
    console = make_console()
    console.print(sizing_report.headline(question))
    console.print(sizing_report.answer_table(question, answers).as_rich())
    console.print(sizing_report.conclusion(question, answers))


def _write(
    question: SizingQuestion, answers: list[SizingAnswer], *, json_file: Path | None, html_file: Path | None
) -> None:
    if json_file is not None:
        json_file.write_text(sizing_report.as_json(question, answers, command=command_line()))
    if html_file is not None:
        html_file.write_text(sizing_report.as_html(question, answers, command=command_line()))

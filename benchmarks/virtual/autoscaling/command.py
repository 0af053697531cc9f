"""Autoscaling policies on the same traffic in virtual time: what each costs in replicas and in late first tokens."""

import os
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.command import CONVERSATION_TRACE, TRACES, TraceOption, make_app, measurement
from benchmarks.harness.report import VIRTUAL_TIME, Report
from benchmarks.harness.rows import rows_report
from benchmarks.virtual.autoscaling import trials
from benchmarks.virtual.autoscaling.contenders import read_contenders
from benchmarks.virtual.autoscaling.day import make_day
from benchmarks.virtual.autoscaling.step import make_step
from benchmarks.virtual.autoscaling.traffic import ScalingTraffic
from loadtests.replay.engine import EngineOptions
from loadtests.report.console import at_least

DEFAULT_RATES = TRACES / "servegen_client_rates.csv.zst"
DEFAULT_AGENTS = TRACES / "derived_blocks_tau_airline.jsonl.zst"
DEFAULT_CONTENDERS = (
    "uncached_work:0.6,uncached_work:0.7,uncached_work:0.8,"
    "ongoing_requests:4,ongoing_requests:4@0.2,ongoing_requests:8@0.2,fixed:6"
)
NUM_CORES = os.cpu_count() or 1

app = make_app()


class ScalingExperiment(StrEnum):
    """What can be replayed."""

    DAY = "day"
    STEP = "step"


@app.command()
@measurement
def main(  # noqa: PLR0913  one for each option
    experiments: Annotated[list[ScalingExperiment] | None, typer.Argument(help="Default: both.")] = None,
    *,
    trace: TraceOption = CONVERSATION_TRACE,
    rates: Annotated[Path, typer.Option(help="ServeGen's table of clients' rates, .zst.")] = DEFAULT_RATES,
    model: Annotated[str, typer.Option(help="One of its models.")] = "m-small",
    day: Annotated[int, typer.Option(min=0, help="One of its days.")] = 1,
    agents: Annotated[Path, typer.Option(help="A trace of sessions, for the step.")] = DEFAULT_AGENTS,
    new_share: Annotated[float, typer.Option(min=0, max=1, help="Share of sessions with new prompts.")] = 0.25,
    policy: Annotated[str, typer.Option(help="Rules and their numbers, separated by commas.")] = DEFAULT_CONTENDERS,
    day_rps: Annotated[float, typer.Option(callback=at_least(0.001), help="Requests a second, the mean.")] = 2.0,
    step_rps: Annotated[float, typer.Option(callback=at_least(0.001), help="Requests a second.")] = 30.0,
    start_s: Annotated[float, typer.Option(callback=at_least(0), help="Until a new replica serves.")] = 60.0,
    first_replicas: Annotated[int, typer.Option(min=1, help="At the start, where they are not fixed.")] = 4,
    max_replicas: Annotated[int, typer.Option(min=1, help="The most replicas.")] = 24,
    upscale_delay_s: Annotated[float, typer.Option(callback=at_least(0), help="Seconds.")] = 30.0,
    downscale_delay_s: Annotated[float, typer.Option(callback=at_least(0), help="Seconds.")] = 600.0,
    ttft_limit: Annotated[float, typer.Option(callback=at_least(0), help="Seconds; a later first token is late.")] = 5,
    kv_tokens: Annotated[int, typer.Option(min=1, help="KV cache of each replica, in tokens.")] = 500_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same arrivals.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = NUM_CORES,
) -> Report:
    """Replay traffic in virtual time under autoscaling policies, and print what each costs in replicas and misses."""
    contenders = read_contenders(policy)
    rules = trials.Rules(
        start_s=start_s,
        first_replicas=first_replicas,
        max_replicas=max_replicas,
        upscale_delay_s=upscale_delay_s,
        downscale_delay_s=downscale_delay_s,
        ttft_limit_s=ttft_limit,
        engine=EngineOptions(kv_capacity_tokens=kv_tokens),
    )
    day_title = f"day: sessions of {trace.name}, {day_rps:g} requests a second as {model} on day {day}"
    step_title = f"step: sessions of {agents.name}, {step_rps:g} requests a second"
    experiment_to_traffic: dict[ScalingExperiment, tuple[str, Callable[[], ScalingTraffic]]] = {
        ScalingExperiment.DAY: (
            day_title,
            partial(make_day, trace, rates, model=model, day=day, mean_rps=day_rps, seed=seed),
        ),
        ScalingExperiment.STEP: (step_title, partial(make_step, agents, rps=step_rps, new_share=new_share, seed=seed)),
    }
    return rows_report(
        [
            (f"{title}; late: after {ttft_limit:g} s", partial(trials.run, make, contenders, rules, num_jobs=jobs))
            for title, make in map(experiment_to_traffic.__getitem__, experiments or list(ScalingExperiment))
        ],
        caveats=VIRTUAL_TIME,
    )

"""Autoscaling policies on the same traffic in virtual time: what each costs in replicas and in late first tokens."""

import os
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.command import CONVERSATION_TRACE, TRACES, SeedOption, TraceOption, make_app, measurement
from benchmarks.harness.report import VIRTUAL_TIME, Report
from benchmarks.harness.rows import rows_report
from benchmarks.virtual.autoscaling import trials
from benchmarks.virtual.autoscaling.traffic import ScalingTraffic, make_day, make_step

DEFAULT_RATES = TRACES / "servegen_client_rates.csv.zst"
DEFAULT_AGENTS = TRACES / "derived_blocks_tau_airline.jsonl.zst"
DAY_RPS, STEP_RPS = 2.0, 30.0
"""Requests a second, on average."""
NUM_CORES = os.cpu_count() or 1

app = make_app()


class ScalingExperiment(StrEnum):
    """What can be replayed."""

    DAY = "day"
    STEP = "step"


@app.command()
@measurement
def main(
    experiments: Annotated[list[ScalingExperiment] | None, typer.Argument(help="Default: both.")] = None,
    *,
    trace: TraceOption = CONVERSATION_TRACE,
    rates: Annotated[Path, typer.Option(help="ServeGen's table of clients' rates, .zst.")] = DEFAULT_RATES,
    agents: Annotated[Path, typer.Option(help="A trace of sessions, for the step.")] = DEFAULT_AGENTS,
    policies: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(trials.CONTENDERS),
    seed: SeedOption = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = NUM_CORES,
) -> Report:
    """Replay traffic in virtual time under autoscaling policies, and print what each costs in replicas and misses."""
    contenders = trials.chosen(policies)
    experiment_to_traffic: dict[ScalingExperiment, tuple[str, Callable[[], ScalingTraffic]]] = {
        ScalingExperiment.DAY: (
            f"day: sessions of {trace.name}, {DAY_RPS:g} requests a second",
            partial(make_day, trace, rates, mean_rps=DAY_RPS, seed=seed),
        ),
        ScalingExperiment.STEP: (
            f"step: sessions of {agents.name}, {STEP_RPS:g} requests a second",
            partial(make_step, agents, rps=STEP_RPS, seed=seed),
        ),
    }
    return rows_report(
        [
            (f"{title}; late: after {trials.TTFT_LIMIT_S:g} s", partial(trials.run, make, contenders, num_jobs=jobs))
            for title, make in map(experiment_to_traffic.__getitem__, experiments or list(ScalingExperiment))
        ],
        caveats=VIRTUAL_TIME,
    )

"""`python -m benchmarks autoscaling`. Thin: parse, run, print."""

import os
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness import rows as report
from benchmarks.virtual.autoscaling import trials
from benchmarks.virtual.autoscaling.contenders import read_contenders
from benchmarks.virtual.autoscaling.day import make_day
from benchmarks.virtual.autoscaling.step import make_step
from benchmarks.virtual.autoscaling.traffic import Traffic
from benchmarks.virtual.several_routers.command import DEFAULT_TRACE
from loadtests.replay.console import at_least, fail
from loadtests.replay.engine import EngineOptions

DEFAULT_RATES = DEFAULT_TRACE.with_name("servegen_client_rates.csv.zst")
DEFAULT_AGENTS = DEFAULT_TRACE.with_name("derived_blocks_tau_airline.jsonl.zst")
DEFAULT_CONTENDERS = (
    "uncached_work:0.6,uncached_work:0.7,uncached_work:0.8,"
    "ongoing_requests:4,ongoing_requests:4@0.2,ongoing_requests:8@0.2,fixed:6"
)
NUM_CORES = os.cpu_count() or 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Experiment(StrEnum):
    """What can be replayed."""

    DAY = "day"
    STEP = "step"


@app.command()
def main(  # noqa: PLR0913  one for each option
    experiments: Annotated[list[Experiment] | None, typer.Argument(help="Default: both.")] = None,
    *,
    trace: Annotated[Path, typer.Option(help="JSON lines in Mooncake's format, plain or .zst.")] = DEFAULT_TRACE,
    rates: Annotated[Path, typer.Option(help="ServeGen's table of clients' rates, .zst.")] = DEFAULT_RATES,
    model: Annotated[str, typer.Option(help="One of its models.")] = "m-small",
    day: Annotated[int, typer.Option(min=0, help="One of its days.")] = 1,
    agents: Annotated[Path, typer.Option(help="A trace of sessions, for the step.")] = DEFAULT_AGENTS,
    new_share: Annotated[float, typer.Option(min=0, max=1, help="Of the step's sessions, for a while.")] = 0.25,
    policy: Annotated[str, typer.Option(help="Rules and their numbers, separated by commas.")] = DEFAULT_CONTENDERS,
    day_rps: Annotated[float, typer.Option(callback=at_least(0.001), help="Requests a second, the mean.")] = 2.0,
    step_rps: Annotated[float, typer.Option(callback=at_least(0.001), help="Requests a second.")] = 30.0,
    start_s: Annotated[float, typer.Option(callback=at_least(0), help="Until a new replica serves.")] = 60.0,
    first_replicas: Annotated[int, typer.Option(min=1, help="At the start, where they are not fixed.")] = 4,
    max_replicas: Annotated[int, typer.Option(min=1)] = 24,
    upscale_delay_s: Annotated[float, typer.Option(callback=at_least(0))] = 30.0,
    downscale_delay_s: Annotated[float, typer.Option(callback=at_least(0))] = 600.0,
    ttft_limit: Annotated[float, typer.Option(callback=at_least(0), help="Seconds; a later first token is late.")] = 5,
    kv_tokens: Annotated[int, typer.Option(min=1, help="KV cache of each replica, in tokens.")] = 500_000,
    seed: Annotated[int, typer.Option(help="Of arrivals.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = NUM_CORES,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the tables there too.")] = None,
) -> None:
    """Replay traffic in virtual time under autoscaling policies, and print what each costs in replicas and misses."""
    try:
        contenders = read_contenders(policy)
    except ValueError as error:
        fail(str(error))
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
    experiment_to_traffic: dict[Experiment, tuple[str, Callable[[], Traffic]]] = {
        Experiment.DAY: (day_title, partial(make_day, trace, rates, model=model, day=day, mean_rps=day_rps, seed=seed)),
        Experiment.STEP: (step_title, partial(make_step, agents, rps=step_rps, new_share=new_share, seed=seed)),
    }
    report.print_tables(
        [
            (f"{title}; late: after {ttft_limit:g} s", partial(trials.run, make, contenders, rules, num_jobs=jobs))
            for title, make in (experiment_to_traffic[each] for each in experiments or list(Experiment))
        ],
        width=200,
        json_file=json_file,
    )

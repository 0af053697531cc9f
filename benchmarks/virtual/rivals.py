"""Every routing policy on the same requests in virtual time, with one production router: one row for each policy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from benchmarks.harness.command import CONVERSATION_TRACE, TraceOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.rows import mean_row, rows_report
from benchmarks.virtual.several_routers.setup import CAVEATS, Setup, simulate
from loadtests.replay.engine import EngineOptions
from loadtests.replay.results import summarize
from loadtests.replay.rivals.table import ALL_NAMES, installed_names
from loadtests.replay.simulation import Scenario

app = make_app()


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """What one policy reaches with one router."""

    policy: str
    hit_rate: float
    mean_ttft_s: float
    p50_ttft_s: float
    p90_ttft_s: float
    p99_ttft_s: float
    prompt_imbalance: float
    computed_imbalance: float


def compare(setup: Setup, policies: Sequence[str], *, kv_tokens: int) -> Iterator[PolicyRow]:
    """A row for each policy, the mean over the seeds."""
    scenarios = tuple(setup.scenarios())
    for policy in policies:
        yield mean_row([_row(scenario, policy, kv_tokens) for scenario in scenarios])


def _row(scenario: Scenario, policy: str, kv_tokens: int) -> PolicyRow:
    result = simulate(
        scenario,
        policy=policy,
        num_routers=1,
        engine=EngineOptions(kv_capacity_tokens=kv_tokens),
        sample_s=scenario.requests[-1].arrival_s,  # the books are not of interest here
    )
    summary = summarize(result, num_replicas=scenario.num_replicas)
    return PolicyRow(
        policy=policy,
        hit_rate=summary.hit_rate,
        mean_ttft_s=summary.mean_ttft_s,
        p50_ttft_s=summary.p50_ttft_s,
        p90_ttft_s=summary.p90_ttft_s,
        p99_ttft_s=summary.p99_ttft_s,
        prompt_imbalance=summary.prompt_imbalance,
        computed_imbalance=summary.computed_imbalance,
    )


def check_policies(names: list[str] | None) -> list[str]:
    """Names from the command line."""
    unknown = [name for name in names or () if name not in ALL_NAMES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: use some of {', '.join(ALL_NAMES)}")
    return names or list(installed_names())


@app.command()
@measurement
def main(
    policies: Annotated[
        list[str], typer.Argument(help="Default: every one whose package is installed.", callback=check_policies)
    ] = [],  # noqa: B006  typer copies
    *,
    trace: TraceOption = CONVERSATION_TRACE,
    load: Annotated[float, typer.Option(min=0.01, help="Prompt tokens over what all replicas can prefill.")] = 0.8,
    replicas: Annotated[int, typer.Option(min=1, help="Number of replicas.")] = 8,
    kv_tokens: Annotated[int, typer.Option(min=1, help="KV capacity of each replica.")] = 500_000,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case, with seeds from 1 on.")] = 1,
    spread_evenly: Annotated[bool, typer.Option(help="How requests of one stamp of the trace are spread.")] = False,
) -> Report:
    """Replay a trace in virtual time under every policy, with one production router in front of simulated engines."""
    setup = Setup(trace, load, replicas, range(1, seeds + 1), is_spread_evenly=spread_evenly)
    title = f"{setup}, {kv_tokens:,} KV tokens each"
    return rows_report([(title, partial(compare, setup, policies, kv_tokens=kv_tokens))], caveats=CAVEATS)

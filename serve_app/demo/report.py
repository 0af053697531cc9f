"""The demo's result: one table, and the same as JSON."""

from dataclasses import asdict
from random import Random
from statistics import fmean
from typing import Any

from rich.table import Table

from serve_app.demo.driver import Measurement
from serve_app.demo.experiment import Experiment
from serve_app.demo.statistics import Interval, Totals, paired_ttft_ratio, percentile

BASELINE = "round_robin"
BOOTSTRAP_SEED = 1


def table(experiment: Experiment) -> Table:
    """Per policy and replica: requests and tokens; per policy: uncached prefill tokens and TTFT."""
    result = Table(title=f"{experiment.repetitions} repetitions, {experiment.concurrency} conversations at a time")
    result.add_column("policy")
    result.add_column("replica")
    for name in ("requests", "prompt tokens", "cached tokens", "hit rate", "uncached tokens"):
        result.add_column(name, justify="right")
    for name in ("TTFT mean", "p50", "p95"):
        result.add_column(name, justify="right")
    for policy, runs in experiment.policy_to_runs.items():
        everything = [each for run in runs for each in run]
        for replica in sorted({each.replica for each in everything}):
            here = [each for each in everything if each.replica == replica]
            result.add_row(policy, replica.rpartition("#")[2], *_cells(here))
        result.add_row(policy, "all", *_cells(everything), style="bold", end_section=True)
    return result


def lines(experiment: Experiment) -> list[str]:
    """What the table does not say: the workload against the cache, reuse, and the paired comparison."""
    assert experiment.bound is not None
    kv_tokens = experiment.application.kv_capacity_tokens()
    working_set = experiment.bound.working_set_tokens
    result = [
        f"Working set: {working_set:,} tokens, {working_set / kv_tokens:.2f} times all KV cache ({kv_tokens:,}); "
        f"prefix common to all requests: {experiment.bound.common_tokens:,} tokens.",
    ]
    for policy, runs in experiment.policy_to_runs.items():
        reuses = [experiment.bound.measure(run) for run in runs]
        share = sum(reuse.reused_tokens for reuse in reuses) / sum(reuse.reusable_tokens for reuse in reuses)
        each = ", ".join(f"{reuse.share:.3f}" for reuse in reuses)
        result.append(f"{policy}: reused {share:.3f} of the tokens reusable beyond the common prefix ({each}).")
    for policy, ratio, uncached in _comparisons(experiment):
        result.append(
            f"{policy} against {BASELINE}: uncached prefill tokens {uncached:.3f}; median paired TTFT ratio "
            f"{ratio.median:.3f}, 95 % interval {ratio.low:.3f} to {ratio.high:.3f}."
        )
    return result


def as_json(experiment: Experiment) -> dict[str, Any]:
    """Every measurement, for other tools."""
    return {
        "repetitions": experiment.repetitions,
        "concurrency": experiment.concurrency,
        "max_tokens": experiment.max_tokens,
        "summary": lines(experiment),
        "runs": {
            policy: [[asdict(each) for each in run] for run in runs]
            for policy, runs in experiment.policy_to_runs.items()
        },
    }


def _comparisons(experiment: Experiment) -> list[tuple[str, Interval, float]]:
    if BASELINE not in experiment.policy_to_runs:
        return []
    base = experiment.policy_to_runs[BASELINE]
    base_uncached = sum(Totals.of(run).uncached_tokens for run in base)
    return [
        (
            policy,
            paired_ttft_ratio(runs, base, Random(BOOTSTRAP_SEED)),  # noqa: S311  resampling, not secrets
            sum(Totals.of(run).uncached_tokens for run in runs) / base_uncached,
        )
        for policy, runs in experiment.policy_to_runs.items()
        if policy != BASELINE
    ]


def _cells(measurements: list[Measurement]) -> list[str]:
    totals = Totals.of(measurements)
    ttfts = [each.ttft_s for each in measurements]
    seconds = (fmean(ttfts), percentile(ttfts, 50), percentile(ttfts, 95))
    return [
        f"{totals.num_requests:,}",
        f"{totals.prompt_tokens:,}",
        f"{totals.cached_tokens:,}",
        f"{totals.hit_rate:.1%}",
        f"{totals.uncached_tokens:,}",
        *(f"{value * 1000:,.0f} ms" for value in seconds),
    ]

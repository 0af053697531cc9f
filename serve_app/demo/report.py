"""The demo's result: one table, and the same as JSON."""

from dataclasses import asdict
from random import Random
from statistics import fmean
from typing import Any

from rich.table import Table

from serve_app.demo.driver import Measurement
from serve_app.demo.experiment import PolicyExperiment
from serve_app.demo.statistics import Interval, TokenTotals, paired_ttft_ratio, percentile
from serve_app.messages.snapshot import short_id

BASELINE = "round_robin"
BOOTSTRAP_SEED = 1
REMEDY = "Set replicas.explain_headers: full."


def table(experiment: PolicyExperiment) -> Table:
    """Per policy and replica: requests and tokens; per policy: uncached prefill tokens and TTFT."""
    title = f"{experiment.repetitions} repetitions, {experiment.concurrency} conversations at a time{experiment.note}"
    result = Table(title=title)
    for name in ("policy", "replica"):
        result.add_column(name, no_wrap=True)
    for name in ("requests", "prompt\ntokens", "cached\ntokens", "hit\nrate", "uncached\ntokens"):
        result.add_column(name, justify="right", no_wrap=True)
    for name in ("TTFT ms\nmean", "\np50", "\np95"):
        result.add_column(name, justify="right", no_wrap=True)
    for policy, runs in experiment.policy_to_runs.items():
        everything = [each for run in runs for each in run]
        for replica in sorted({each.replica for each in everything if each.replica is not None}):
            here = [each for each in everything if each.replica == replica]
            result.add_row(policy, short_id(replica), *_cells(here))
        result.add_row(policy, "all", *_cells(everything), style="bold", end_section=True)
    return result


def lines(experiment: PolicyExperiment) -> list[str]:
    """What the table does not say: the workload against the cache, reuse, and the paired comparison."""
    assert experiment.bound is not None
    kv_tokens = experiment.application.kv_capacity_tokens()
    working_set = experiment.bound.working_set_tokens
    ratio_to_cache = f"{working_set / kv_tokens:.2f} times all KV cache ({kv_tokens:,} tokens)"
    result = [
        f"Working set: {working_set:,} tokens, {ratio_to_cache}",
        f"Prefix common to all requests: {experiment.bound.common_tokens:,} tokens",
        "Of the tokens reusable beyond it, reused (in each repetition):",
    ]
    for policy, runs in experiment.policy_to_runs.items():
        reuses = [experiment.bound.measure(run) for run in runs]
        share = sum(reuse.reused_tokens for reuse in reuses) / max(1, sum(reuse.reusable_tokens for reuse in reuses))
        result.append(f"  {policy}: {share:.3f} ({', '.join(f'{reuse.share:.3f}' for reuse in reuses)})")
    for policy, ratio, uncached in _comparisons(experiment):
        interval = f"95 % interval {ratio.low:.3f} to {ratio.high:.3f}"
        result.append(f"{policy} against {BASELINE}:")
        result.append(f"  uncached prefill tokens: {uncached:.3f} times")
        result.append(f"  TTFT: {ratio.median:.3f} times (median of request by request, {interval})")
    if any(each.replica is None for runs in experiment.policy_to_runs.values() for run in runs for each in run):
        result.append(f"Figures of each replica: not available, as answers do not say which one gave them. {REMEDY}")
    return result


def as_json(experiment: PolicyExperiment) -> dict[str, Any]:
    """Every measurement, for other tools."""
    return {
        "repetitions": experiment.repetitions,
        "concurrency": experiment.concurrency,
        "max_tokens": experiment.max_tokens,
        "note": experiment.note.strip(" ()"),
        "summary": lines(experiment),
        "runs": {
            policy: [[asdict(each) for each in run] for run in runs]
            for policy, runs in experiment.policy_to_runs.items()
        },
    }


def _comparisons(experiment: PolicyExperiment) -> list[tuple[str, Interval, float]]:
    if BASELINE not in experiment.policy_to_runs:
        return []
    base = experiment.policy_to_runs[BASELINE]
    base_uncached = sum(TokenTotals.of(run).uncached_tokens for run in base)
    return [
        (
            policy,
            paired_ttft_ratio(runs, base, Random(BOOTSTRAP_SEED)),  # noqa: S311  resampling, not secrets
            sum(TokenTotals.of(run).uncached_tokens for run in runs) / base_uncached,
        )
        for policy, runs in experiment.policy_to_runs.items()
        if policy != BASELINE
    ]


def _cells(measurements: list[Measurement]) -> list[str]:
    totals = TokenTotals.of(measurements)
    ttfts = [each.ttft_s for each in measurements]
    seconds = (fmean(ttfts), percentile(ttfts, 50), percentile(ttfts, 95))
    return [
        f"{totals.num_requests:,}",
        f"{totals.prompt_tokens:,}",
        f"{totals.cached_tokens:,}",
        f"{totals.hit_rate:.1%}",
        f"{totals.uncached_tokens:,}",
        *(f"{value * 1000:,.0f}" for value in seconds),
    ]

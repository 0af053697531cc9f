"""A comparison as a headline, as tables for the terminal and the page alike, and as JSON."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from loadtests.replay.estimates import METRICS, PolicyEstimates, bound_estimates, estimates
from loadtests.replay.experiment import PolicyComparison, ReplayExperiment
from loadtests.report.intervals import estimate_text
from loadtests.report.json_text import json_text
from loadtests.report.origin import versions
from loadtests.report.tables import TextTable
from serve_app.settings.schema import ReplicaSettings


def headline(comparison: PolicyComparison) -> str:
    """What was run, in one line."""
    experiment, bounds = comparison.experiment, comparison.bounds[0]
    routers = "1 router" if experiment.num_routers == 1 else f"{experiment.num_routers} routers"
    loop = ", closed loop" if bounds.is_closed_loop else ""
    told = "" if experiment.told_kv_tokens is None else f" (routers are told {experiment.told_kv_tokens:,})"
    told += _host_text(experiment)
    order = experiment.engine.waiting_order
    told += "" if order == ReplicaSettings().waiting_order else f", waiting order {order}"
    events = _events_text(experiment)
    workload = experiment.workload
    made = "" if workload.generator is None else f" made at {workload.rate:g} times its own rate"
    return (
        f"{workload.trace.name}, {bounds.num_requests:,} requests{made}{loop}: {experiment.num_replicas} replicas "
        f"of {experiment.engine.kv_capacity_tokens:,} KV tokens{told}, {routers}{events}, messages "
        f"{experiment.delay_s * 1000:g} ms late, seeds {', '.join(map(str, experiment.seeds))}"
    )


def _host_text(experiment: ReplayExperiment) -> str:
    host_tokens, told_tokens = experiment.engine.host_capacity_tokens, experiment.told_host_tokens
    if not host_tokens:
        return ""
    told = "" if told_tokens is None else f" (routers are told {told_tokens:,})"
    return f" and {host_tokens:,} in host memory{told}"


def _events_text(experiment: ReplayExperiment) -> str:
    if not experiment.is_telling:
        return ""
    return ", KV events" + ("" if experiment.kv_delay_s is None else f" {experiment.kv_delay_s * 1000:g} ms late")


def comparison_tables(comparison: PolicyComparison) -> Iterator[TextTable]:
    """The numbers by load and policy and, of several policies, their ratios to the first one's."""
    rows = sorted(estimates(comparison), key=lambda row: row.load)  # stable: policies stay in order
    first, *others = comparison.experiment.policies
    limit_s = comparison.experiment.ttft_limit_s
    yield _table(f"Good: first token within {limit_s:g} s", rows, _numbers)
    if others:
        yield _table(f"Times {first}", [row for row in rows if row.policy != first], _ratios)
    yield _table("Prompt tokens: share reused, and shares lost by cause", rows, _shares)


def bounds_text(comparison: PolicyComparison) -> str:
    """The hit rates that the policies are compared with, at the first load."""
    engine, num_replicas = comparison.experiment.engine, comparison.experiment.num_replicas
    bounds = next(iter(bound_estimates(comparison)))
    return (
        f"Hit rates without routing: {estimate_text(bounds.pooled, '.4f')} of one pooled LRU of "
        f"{num_replicas * engine.kv_capacity_tokens:,} tokens, {estimate_text(bounds.infinite, '.4f')} of an infinite "
        "cache"
    )


def as_json(comparison: PolicyComparison, *, command: str) -> str:
    """How the comparison was made, every run, and the estimates."""
    content = {
        "command": command,
        "versions": versions(),
        **dataclasses.asdict(comparison),
        "estimates": [dataclasses.asdict(row) for row in estimates(comparison)],
        "bound_estimates": [dataclasses.asdict(bounds) for bounds in bound_estimates(comparison)],
    }
    return json_text(content)


def _table(
    title: str, rows: Sequence[PolicyEstimates], cells: Callable[[PolicyEstimates], dict[str, str]]
) -> TextTable:
    return TextTable(
        title,
        ["policy", "load", *cells(rows[0])],
        [[row.policy, f"{row.load:g}", *cells(row).values()] for row in rows],
    )


def _numbers(row: PolicyEstimates) -> dict[str, str]:
    return {metric.title: metric.text(row.metric_to_mean) for metric in METRICS}


def _ratios(row: PolicyEstimates) -> dict[str, str]:
    return {metric.title: metric.ratio_text(row.metric_to_ratio) for metric in METRICS if metric.has_ratio}


def _shares(row: PolicyEstimates) -> dict[str, str]:
    shares = {"reused": row.metric_to_mean["hit_rate"], **row.cause_to_share}
    return {name.replace("_", " "): estimate_text(share, ".4f") for name, share in shares.items()}

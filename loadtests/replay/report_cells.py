"""A comparison as tables of text, for the terminal and the page alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from loadtests.replay.estimates import METRICS, PolicyEstimates, bound_estimates, estimates
from loadtests.replay.experiment import Comparison, Experiment
from loadtests.report.intervals import estimate_text
from serve_app.settings.schema import ReplicaSettings


@dataclass(frozen=True, slots=True)
class Cells:
    """The first column says what a row is about, the others are numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def headline(comparison: Comparison) -> str:
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


def _host_text(experiment: Experiment) -> str:
    host_tokens, told_tokens = experiment.engine.host_capacity_tokens, experiment.told_host_tokens
    if not host_tokens:
        return ""
    told = "" if told_tokens is None else f" (routers are told {told_tokens:,})"
    return f" and {host_tokens:,} in host memory{told}"


def _events_text(experiment: Experiment) -> str:
    if not experiment.is_telling:
        return ""
    return ", KV events" + ("" if experiment.kv_delay_s is None else f" {experiment.kv_delay_s * 1000:g} ms late")


def comparison_cells(comparison: Comparison) -> Iterator[Cells]:
    """The numbers by load and policy and, of several policies, their ratios to the first one's."""
    rows = sorted(estimates(comparison), key=lambda row: row.load)  # stable: policies stay in order
    first, *others = comparison.experiment.policies
    limit_s = comparison.experiment.ttft_limit_s
    yield _cells(f"Good: first token within {limit_s:g} s", rows, _numbers)
    if others:
        yield _cells(f"Times {first}", [row for row in rows if row.policy != first], _ratios)
    yield _cells("Prompt tokens: share reused, and shares lost by cause", rows, _fates)


def bounds_text(comparison: Comparison) -> str:
    """The hit rates that the policies are held against, at the first load."""
    engine, num_replicas = comparison.experiment.engine, comparison.experiment.num_replicas
    bounds = next(iter(bound_estimates(comparison)))
    return (
        f"Hit rates without routing: {estimate_text(bounds.pooled, '.4f')} of one pooled LRU of "
        f"{num_replicas * engine.kv_capacity_tokens:,} tokens, {estimate_text(bounds.infinite, '.4f')} of an infinite "
        "cache"
    )


def _cells(
    title: str, rows: Sequence[PolicyEstimates], make_cells: Callable[[PolicyEstimates], dict[str, str]]
) -> Cells:
    titles = list(make_cells(rows[0]))
    return Cells(
        title,
        ["policy", "load", *titles],
        [[row.policy, f"{row.load:g}", *make_cells(row).values()] for row in rows],
    )


def _numbers(row: PolicyEstimates) -> dict[str, str]:
    return {each.title: estimate_text(row.metric_to_mean[each.name], each.format) for each in METRICS}


def _fates(row: PolicyEstimates) -> dict[str, str]:
    shares = {"reused": row.metric_to_mean["hit_rate"], **row.cause_to_share}
    return {name.replace("_", " "): estimate_text(share, ".4f") for name, share in shares.items()}


def _ratios(row: PolicyEstimates) -> dict[str, str]:
    compared = [each for each in METRICS if each.has_ratio]
    return {each.title: estimate_text(row.metric_to_ratio[each.name], ".3f") for each in compared}

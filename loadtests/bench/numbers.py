"""A cell in numbers, cells over repetitions, and ours against another routing. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from loadtests.bench.records import CellResult, SentTurn
from loadtests.report.columns import MetricColumn
from loadtests.report.intervals import Estimate, mean, ratio
from loadtests.report.statistics import percentile

DECIDING = "ttft_mean_s"
"""The metric by which one routing is ahead of another."""
MAX_UNANSWERED_DIFFERENCE = 0.01


METRICS = (
    MetricColumn("hit_rate", "hit rate", "hit rate", ".3f"),
    MetricColumn("ttft_mean_s", "TTFT s", "mean TTFT, seconds", ".3f", has_ratio=True),
    MetricColumn("ttft_p50_s", "p50", "median TTFT, seconds", ".3f", has_ratio=True),
    MetricColumn("ttft_p95_s", "p95", "95th percentile of TTFT, seconds", ".3f", has_ratio=True),
    MetricColumn("ttft_p99_s", "p99", "99th percentile of TTFT, seconds", ".3f", has_ratio=True),
    MetricColumn("end_to_end_s", "whole answer s", "mean time to the last token, seconds", ".3f", has_ratio=True),
    MetricColumn("goodput_rps", "good/s", "requests a second within the SLO", ".2f", has_ratio=True),
    MetricColumn("good_share", "good", "share of requests within the SLO", ".3f"),
    MetricColumn("failed_share", "failed", "share of requests that failed", ".3f"),
    MetricColumn("rejected_share", "429", "share of requests answered 429", ".3f"),
    MetricColumn("imbalance", "imbalance", "computed tokens: most over mean", ".2f"),
)


COMPARED = tuple(metric for metric in METRICS if metric.has_ratio)


def numbers(result: CellResult, *, ttft_slo_s: float) -> dict[str, float]:
    """The cell's numbers by metric. TTFT and end-to-end time are of complete answers, and not a number without any."""
    records = result.records
    complete = [record for record in records if record.is_complete]
    ttfts = [record.ttft_s for record in complete if record.ttft_s is not None]
    num_good = sum(ttft <= ttft_slo_s for ttft in ttfts)
    num_shed = sum(record.is_shed for record in records)
    prompt_tokens = sum(record.prompt_tokens for record in complete)
    return {
        "hit_rate": _share(sum(record.cached_tokens for record in complete), prompt_tokens),
        "ttft_mean_s": _or_nan(fmean, ttfts),
        "ttft_p50_s": _or_nan(lambda values: percentile(values, 50), ttfts),
        "ttft_p95_s": _or_nan(lambda values: percentile(values, 95), ttfts),
        "ttft_p99_s": _or_nan(lambda values: percentile(values, 99), ttfts),
        "end_to_end_s": _or_nan(fmean, [record.end_to_end_s for record in complete]),
        "goodput_rps": num_good / result.duration_s,
        "good_share": _share(num_good, len(records)),
        "failed_share": _share(len(records) - len(complete) - num_shed, len(records)),
        "rejected_share": _share(num_shed, len(records)),
        "imbalance": _imbalance(complete, result.num_replicas),
    }


def reasons(records: Sequence[SentTurn]) -> dict[str, int]:
    """The number of decisions by reason; the most frequent first."""
    return dict(Counter(record.reason or "none" for record in records).most_common())


@dataclass(frozen=True, slots=True)
class RoutingRow:
    """One routing at one load, over the repetitions."""

    workload: str
    load: float
    routing: str
    metric_to_mean: dict[str, Estimate]
    reason_to_count: dict[str, int]


def rows(results: Sequence[CellResult], *, ttft_slo_s: float) -> list[RoutingRow]:
    """Loads in increasing order, the rest as first met."""
    return [
        RoutingRow(
            workload,
            load,
            routing,
            _means([numbers(cell, ttft_slo_s=ttft_slo_s) for cell in group]),
            reasons([record for cell in group for record in cell.records]),
        )
        for (workload, load, routing), group in _groups(results).items()
    ]


@dataclass(frozen=True, slots=True)
class RoutingComparison:
    """Ours against another routing at one load: ratios of sums, paired by repetition."""

    workload: str
    load: float
    other: str
    metric_to_ratio: dict[str, Estimate]
    num_repetitions: int
    unanswered_difference: float
    """The share of requests that failed or were answered 429: ours less theirs."""

    @property
    def verdict(self) -> str:
        """Whether the whole interval of mean TTFT lies on one side of 1. No routing is ahead by answering less."""
        ttft = self.metric_to_ratio[DECIDING]
        if math.isnan(ttft.value) or ttft.margin is None:
            return "no difference shown"
        if ttft.value + ttft.margin < 1 and self.unanswered_difference <= MAX_UNANSWERED_DIFFERENCE:
            return "ahead"
        if ttft.value - ttft.margin > 1 and -self.unanswered_difference <= MAX_UNANSWERED_DIFFERENCE:
            return "behind"
        return "no difference shown"


def comparisons(results: Sequence[CellResult], *, ours: str, ttft_slo_s: float) -> list[RoutingComparison]:
    """Ours with every other routing, over the repetitions that both have."""
    groups = {
        key: {cell.cell.repetition: numbers(cell, ttft_slo_s=ttft_slo_s) for cell in group}
        for key, group in _groups(results).items()
    }
    compared = []
    for (workload, load, other), theirs in groups.items():
        own = groups.get((workload, load, ours), {})
        both = sorted(own.keys() & theirs.keys())
        if other != ours and both:
            pairs = [(own[repetition], theirs[repetition]) for repetition in both]
            compared.append(_comparison(workload, load, other, pairs))
    return compared


def _comparison(
    workload: str, load: float, other: str, pairs: Sequence[tuple[dict[str, float], dict[str, float]]]
) -> RoutingComparison:
    ratios = {
        metric.name: ratio([own[metric.name] for own, _ in pairs], [theirs[metric.name] for _, theirs in pairs])
        for metric in COMPARED
    }
    unanswered = fmean(_unanswered_share(own) - _unanswered_share(theirs) for own, theirs in pairs)
    return RoutingComparison(workload, load, other, ratios, len(pairs), unanswered)


def verdict_lines(compared: Sequence[RoutingComparison]) -> list[str]:
    """A line for each workload and load."""
    lines = []
    for workload, load in dict.fromkeys((comparison.workload, comparison.load) for comparison in compared):
        here = [comparison for comparison in compared if (comparison.workload, comparison.load) == (workload, load)]
        verdict_to_others = {verdict: [row.other for row in here if row.verdict == verdict] for verdict in _OF}
        parts = [
            f"{verdict}{_OF[verdict]} {', '.join(others)}" for verdict, others in verdict_to_others.items() if others
        ]
        lines.append(f"{workload}, load {load:g}: {'; '.join(parts)}")
    return lines


_OF = {"ahead": " of", "behind": "", "no difference shown": " against"}


def _groups(results: Sequence[CellResult]) -> dict[tuple[str, float, str], list[CellResult]]:
    groups: dict[tuple[str, float, str], list[CellResult]] = {}
    for result in sorted(results, key=lambda result: (result.cell.load, result.cell.repetition)):
        groups.setdefault((result.cell.workload, result.cell.load, result.cell.routing), []).append(result)
    return groups


def _imbalance(complete: Sequence[SentTurn], num_replicas: int) -> float:
    """Computed prompt tokens of the replica with the most, over the mean of all; 1 is even.

    Not a number where an answer does not say which replica gave it.
    """
    computed: Counter[str] = Counter()
    for record in complete:
        if record.replica is None:
            return math.nan
        computed[record.replica] += record.prompt_tokens - record.cached_tokens
    total = computed.total()
    return max(computed.values()) * num_replicas / total if total else math.nan


def _unanswered_share(cell: dict[str, float]) -> float:
    return cell["failed_share"] + cell["rejected_share"]


def _means(cells: Sequence[dict[str, float]]) -> dict[str, Estimate]:
    return {metric.name: _mean([cell[metric.name] for cell in cells]) for metric in METRICS}


def _mean(values: Sequence[float]) -> Estimate:
    known = [value for value in values if not math.isnan(value)]
    return mean(known) if known else Estimate(math.nan, None)


def _or_nan(function: Callable[[Sequence[float]], float], values: Sequence[float]) -> float:
    return function(values) if values else math.nan


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan

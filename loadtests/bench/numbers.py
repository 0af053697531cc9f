"""A cell in numbers, cells over repetitions, and ours against another routing. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from loadtests.bench.records import CellResult, SentTurn
from loadtests.report.intervals import Estimate, mean, ratio
from loadtests.report.statistics import percentile

COMPARED = ("ttft_mean_s", "ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "end_to_end_s", "goodput_rps")
"""Those whose ratios are reported; the first decides."""
MAX_UNANSWERED_DIFFERENCE = 0.01


@dataclass(frozen=True, slots=True)
class Metric:
    """A column."""

    name: str
    title: str
    long_title: str
    format: str


METRICS = (
    Metric("hit_rate", "hit rate", "hit rate", ".3f"),
    Metric("ttft_mean_s", "TTFT s", "mean TTFT, seconds", ".3f"),
    Metric("ttft_p50_s", "p50", "median TTFT, seconds", ".3f"),
    Metric("ttft_p95_s", "p95", "95th percentile of TTFT, seconds", ".3f"),
    Metric("ttft_p99_s", "p99", "99th percentile of TTFT, seconds", ".3f"),
    Metric("end_to_end_s", "whole answer s", "mean time to the last token, seconds", ".3f"),
    Metric("goodput_rps", "good/s", "requests a second within the SLO", ".2f"),
    Metric("good_share", "good", "share of requests within the SLO", ".3f"),
    Metric("failed_share", "failed", "share of requests that failed", ".3f"),
    Metric("rejected_share", "429", "share of requests answered 429", ".3f"),
    Metric("imbalance", "imbalance", "computed tokens: most over mean", ".2f"),
)


def numbers(result: CellResult, *, ttft_slo_s: float) -> dict[str, float]:
    """By the names in `METRICS`. TTFT and end-to-end time are of complete answers, not a number without any."""
    records = result.records
    complete = [each for each in records if each.is_complete]
    ttfts = [each.ttft_s for each in complete if each.ttft_s is not None]
    num_good = sum(ttft <= ttft_slo_s for ttft in ttfts)
    num_rejected = sum(each.is_shed for each in records)
    prompt_tokens = sum(each.prompt_tokens for each in complete)
    return {
        "hit_rate": _share(sum(each.cached_tokens for each in complete), prompt_tokens),
        "ttft_mean_s": _or_nan(fmean, ttfts),
        "ttft_p50_s": _or_nan(lambda values: percentile(values, 50), ttfts),
        "ttft_p95_s": _or_nan(lambda values: percentile(values, 95), ttfts),
        "ttft_p99_s": _or_nan(lambda values: percentile(values, 99), ttfts),
        "end_to_end_s": _or_nan(fmean, [each.end_to_end_s for each in complete]),
        "goodput_rps": num_good / result.duration_s,
        "good_share": _share(num_good, len(records)),
        "failed_share": _share(len(records) - len(complete) - num_rejected, len(records)),
        "rejected_share": _share(num_rejected, len(records)),
        "imbalance": _imbalance(complete, result.num_replicas),
    }


def reasons(records: Sequence[SentTurn]) -> dict[str, int]:
    """How many decisions were made for which reason; the most frequent first."""
    return dict(Counter(each.reason or "none" for each in records).most_common())


@dataclass(frozen=True, slots=True)
class Row:
    """One routing at one load, over the repetitions."""

    workload: str
    load: float
    routing: str
    metric_to_mean: dict[str, Estimate]
    reason_to_count: dict[str, int]


def rows(results: Sequence[CellResult], *, ttft_slo_s: float) -> list[Row]:
    """Loads in increasing order, the rest as first met."""
    return [
        Row(
            workload,
            load,
            routing,
            {
                metric.name: _mean([numbers(each, ttft_slo_s=ttft_slo_s)[metric.name] for each in group])
                for metric in METRICS
            },
            reasons([record for each in group for record in each.records]),
        )
        for (workload, load, routing), group in _groups(results).items()
    ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against another routing at one load: ratios of sums, paired by repetition."""

    workload: str
    load: float
    other: str
    metric_to_ratio: dict[str, Estimate]
    num_repetitions: int
    unanswered_difference: float
    """Share of requests that failed or were answered 429, ours less theirs."""

    @property
    def verdict(self) -> str:
        """By mean TTFT: whether the whole interval lies on one side of 1. Nobody is ahead by answering less."""
        ttft = self.metric_to_ratio[COMPARED[0]]
        if math.isnan(ttft.value) or ttft.margin is None:
            return "no difference shown"
        if ttft.value + ttft.margin < 1 and self.unanswered_difference <= MAX_UNANSWERED_DIFFERENCE:
            return "ahead"
        if ttft.value - ttft.margin > 1 and -self.unanswered_difference <= MAX_UNANSWERED_DIFFERENCE:
            return "behind"
        return "no difference shown"


def comparisons(results: Sequence[CellResult], *, ours: str, ttft_slo_s: float) -> list[Comparison]:
    """With every other routing, of the repetitions that both have."""
    groups = _groups(results)
    compared = []
    for (workload, load, other), group in groups.items():
        if other == ours or (workload, load, ours) not in groups:
            continue
        theirs = {each.cell.repetition: numbers(each, ttft_slo_s=ttft_slo_s) for each in group}
        own = {each.cell.repetition: numbers(each, ttft_slo_s=ttft_slo_s) for each in groups[workload, load, ours]}
        both = sorted(own.keys() & theirs.keys())
        if both:
            ratios = {
                name: ratio([own[each][name] for each in both], [theirs[each][name] for each in both])
                for name in COMPARED
            }
            unanswered = fmean(_unanswered_share(own[each]) - _unanswered_share(theirs[each]) for each in both)
            compared.append(Comparison(workload, load, other, ratios, len(both), unanswered))
    return compared


def verdict_lines(compared: Sequence[Comparison]) -> list[str]:
    """One for each workload and load."""
    lines = []
    for workload, load in dict.fromkeys((each.workload, each.load) for each in compared):
        here = [each for each in compared if (each.workload, each.load) == (workload, load)]
        parts = [
            f"{verdict}{_OF[verdict]} {', '.join(each.other for each in here if each.verdict == verdict)}"
            for verdict in _OF
            if any(each.verdict == verdict for each in here)
        ]
        lines.append(f"{workload}, load {load:g}: {'; '.join(parts)}")
    return lines


_OF = {"ahead": " of", "behind": "", "no difference shown": " against"}


def _groups(results: Sequence[CellResult]) -> dict[tuple[str, float, str], list[CellResult]]:
    groups: dict[tuple[str, float, str], list[CellResult]] = {}
    for each in sorted(results, key=lambda each: (each.cell.load, each.cell.repetition)):
        groups.setdefault((each.cell.workload, each.cell.load, each.cell.routing), []).append(each)
    return groups


def _imbalance(complete: Sequence[SentTurn], num_replicas: int) -> float:
    """Computed prompt tokens of the replica with the most, over the mean of all; 1 is even.

    Not a number where an answer does not say which replica gave it.
    """
    computed: Counter[str] = Counter()
    for each in complete:
        if each.replica is None:
            return math.nan
        computed[each.replica] += each.prompt_tokens - each.cached_tokens
    total = computed.total()
    return max(computed.values()) * num_replicas / total if total else math.nan


def _unanswered_share(of_a_cell: dict[str, float]) -> float:
    return of_a_cell["failed_share"] + of_a_cell["rejected_share"]


def _mean(values: Sequence[float]) -> Estimate:
    known = [value for value in values if not math.isnan(value)]
    return mean(known) if known else Estimate(math.nan, None)


def _or_nan(function: Callable[[Sequence[float]], float], values: Sequence[float]) -> float:
    return function(values) if values else math.nan


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan

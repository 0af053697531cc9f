"""A comparison's numbers over the seeds: means, and ratios to the first policy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtests.replay.experiment import CaseOutcome, PolicyComparison
from loadtests.report import intervals
from loadtests.report.columns import MetricColumn
from loadtests.report.intervals import Estimate
from router import Loss

METRICS = (
    MetricColumn("hit_rate", "hit rate", "hit rate", ".4f", has_ratio=True),
    MetricColumn("mean_ttft_s", "TTFT mean s", "mean TTFT, seconds", ".3f", has_ratio=True),
    MetricColumn("p50_ttft_s", "p50", "median TTFT, seconds", ".3f"),
    MetricColumn("p90_ttft_s", "p90", "p90 TTFT, seconds", ".3f", has_ratio=True),
    MetricColumn("p99_ttft_s", "p99", "p99 TTFT, seconds", ".3f", has_ratio=True),
    MetricColumn("mean_answer_s", "answer s", "mean time to the last token, seconds", ".2f", has_ratio=True),
    MetricColumn("goodput_rps", "good/s", "good requests a second", ".3f", has_ratio=True),
    MetricColumn("served_rps", "served/s", "served requests a second", ".3f", has_ratio=True),
    MetricColumn("computed_imbalance", "imbalance", "imbalance of computed tokens", ".3f"),
    MetricColumn("window_imbalance", "in windows", "the same in windows", ".3f"),
    MetricColumn("copies", "copies", "copies of a block", ".2f"),
    MetricColumn("decisions_per_s", "decisions/s", "decisions a second", ",.0f"),
)


@dataclass(frozen=True, slots=True)
class PolicyEstimates:
    """One policy at one load."""

    policy: str
    load: float
    metric_to_mean: dict[str, Estimate]
    metric_to_ratio: dict[str, Estimate]
    """Ratios to the first policy, by metric that is compared."""
    cause_to_share: dict[str, Estimate]
    """Shares of all prompt tokens that were lost, by cause; causes that took none in any run are left out."""


@dataclass(frozen=True, slots=True)
class BoundEstimates:
    """Hit rates that do not depend on the policy, at one load."""

    load: float
    pooled: Estimate
    infinite: Estimate


def estimates(comparison: PolicyComparison) -> Iterator[PolicyEstimates]:
    """The estimates in order of the loads, then of the policies."""
    experiment = comparison.experiment
    causes = [cause for cause in Loss if any(cause in outcome.funnel.lost for outcome in comparison.outcomes)]
    for load in experiment.loads:
        first = comparison.of(experiment.policies[0], load)
        for policy in experiment.policies:
            own = comparison.of(policy, load)
            yield PolicyEstimates(
                policy,
                load,
                {metric.name: intervals.mean(_values(own, metric)) for metric in METRICS},
                {
                    metric.name: intervals.ratio(_values(own, metric), _values(first, metric))
                    for metric in METRICS
                    if metric.has_ratio
                },
                {cause.value: intervals.mean([_share(outcome, cause) for outcome in own]) for cause in causes},
            )


def bound_estimates(comparison: PolicyComparison) -> Iterator[BoundEstimates]:
    """The bounds in order of the loads."""
    for load in comparison.experiment.loads:
        seeds = [bounds for bounds in comparison.bounds if bounds.load == load]
        yield BoundEstimates(
            load,
            intervals.mean([bounds.pooled_hit_rate for bounds in seeds]),
            intervals.mean([bounds.infinite_hit_rate for bounds in seeds]),
        )


def _share(outcome: CaseOutcome, cause: Loss) -> float:
    return outcome.funnel.lost.get(cause, 0) / outcome.funnel.offered


def _values(outcomes: Sequence[CaseOutcome], metric: MetricColumn) -> list[float]:
    return [getattr(outcome.summary, metric.name) for outcome in outcomes]

"""Summaries of a run, and the paired comparison of two."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from serve_app.demo.driver import Measurement

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with its bootstrap interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TokenTotals:
    """Sums over requests; rates are ratios of sums."""

    num_requests: int
    prompt_tokens: int
    cached_tokens: int

    @classmethod
    def of(cls, measurements: Sequence[Measurement]) -> "TokenTotals":
        """The totals of some requests."""
        return cls(
            len(measurements),
            sum(each.prompt_tokens for each in measurements),
            sum(each.cached_tokens for each in measurements),
        )

    @property
    def uncached_tokens(self) -> int:
        """Prefill that had to be computed."""
        return self.prompt_tokens - self.cached_tokens

    @property
    def hit_rate(self) -> float:
        """Cached of all prompt tokens."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile by linear interpolation; the only value when there is one."""
    return values[0] if len(values) == 1 else statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def paired_ttft_ratio(
    ours: Sequence[Sequence[Measurement]], baseline: Sequence[Sequence[Measurement]], rng: Random
) -> Interval:
    """Median over requests of TTFT(ours) / TTFT(baseline), each request paired with itself in its repetition.

    The interval resamples whole conversations, because the requests of one are not independent.
    """
    conversation_to_ratios: dict[str, list[float]] = {}
    for run, base in zip(ours, baseline, strict=True):
        key_to_base = {(each.conversation, each.turn): each.ttft_s for each in base}
        for each in run:
            ratio = each.ttft_s / key_to_base[each.conversation, each.turn]
            conversation_to_ratios.setdefault(each.conversation, []).append(ratio)
    clusters = list(conversation_to_ratios.values())
    medians = sorted(
        statistics.median([ratio for cluster in rng.choices(clusters, k=len(clusters)) for ratio in cluster])
        for _ in range(NUM_RESAMPLES)
    )
    tail = round(NUM_RESAMPLES * (1 - CONFIDENCE) / 2)
    return Interval(
        median=statistics.median([ratio for cluster in clusters for ratio in cluster]),
        low=medians[tail],
        high=medians[-tail - 1],
    )

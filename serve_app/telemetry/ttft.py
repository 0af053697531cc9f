"""Times to first token, of cold and of warm prompts apart, as histograms that can be added up."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from router import CacheRecord

BOUNDS_S = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2)
"""Each class ends with its bound; one more is above all."""
WARM_SHARE = 0.5
KINDS = ("cold", "warm")
"""Fields of `Ttft`."""


def is_warm(record: CacheRecord) -> bool:
    """Whether at least half of a prompt was reused."""
    return record.reused >= WARM_SHARE * record.offered


@dataclass(slots=True)
class Histogram:
    """Of some times, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    """By class."""
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(self.counts)

    @property
    def mean_s(self) -> float | None:
        """None without any."""
        return self.sum_s / self.number if self.number else None

    def quantile_s(self, share: float) -> float | None:
        """Below which this share of them is, as if they were spread evenly in their class; None without any.

        Of the last class, which has no end, its start is all that is known.
        """
        if not self.number:
            return None
        wanted, below = share * self.number, 0
        edges: Sequence[float] = (0.0, *BOUNDS_S, BOUNDS_S[-1])
        for start, end, count in zip(edges[:-1], edges[1:], self.counts, strict=True):
            if count and below + count >= wanted:
                return start + (end - start) * (wanted - below) / count
            below += count
        return edges[-1]


@dataclass(slots=True)
class Ttft:
    """Of the prompts of which at least half was reused, and of the others."""

    cold: Histogram = field(default_factory=Histogram)
    warm: Histogram = field(default_factory=Histogram)

    def add(self, seconds: float, *, is_warm: bool) -> None:
        """One more prompt's."""
        (self.warm if is_warm else self.cold).add(seconds)

    def by_kind(self) -> Iterator[tuple[str, Histogram]]:
        """Each with its name."""
        return ((kind, getattr(self, kind)) for kind in KINDS)

    def as_snapshot(self) -> dict[str, Any]:
        """Plain data."""
        return {
            kind: {"counts": list(histogram.counts), "sum_s": histogram.sum_s} for kind, histogram in self.by_kind()
        }

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> Self:
        """What `as_snapshot` made plain."""
        return cls(**{kind: Histogram(list(each["counts"]), each["sum_s"]) for kind, each in snapshot.items()})

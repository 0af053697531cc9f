"""Times to first token, of cold and of warm prompts apart, as histograms that add up."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from router import CacheRecord

BOUNDS_S = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2)
"""The upper bounds of the histogram's classes; one more class has no bound."""
WARM_SHARE = 0.5
"""The share of a prompt, 0 to 1, that must be reused for the prompt to be warm."""
KINDS = ("cold", "warm")
"""The fields of `Ttft`."""


def is_warm(record: CacheRecord) -> bool:
    """Whether at least half of a prompt was reused."""
    return record.reused >= WARM_SHARE * record.offered


@dataclass(slots=True)
class Histogram:
    """A histogram of times, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    """The number of times in each class."""
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more time."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def merge(self, other: "Histogram") -> None:
        """Add the times of another histogram."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    @property
    def number(self) -> int:
        """The number of times."""
        return sum(self.counts)

    @property
    def mean_s(self) -> float | None:
        """The mean time; None without any."""
        return self.sum_s / self.number if self.number else None

    def quantile_s(self, share: float) -> float | None:
        """The time below which this share of the times lies; None without any.

        Times count as spread evenly in their class. The last class has no end, so its start stands for it.
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
    """Times to first token: `warm` of prompts of which at least half was reused, `cold` of the others."""

    cold: Histogram = field(default_factory=Histogram)
    warm: Histogram = field(default_factory=Histogram)

    def add(self, seconds: float, *, is_warm: bool) -> None:
        """Count one more prompt's time."""
        (self.warm if is_warm else self.cold).add(seconds)

    def merge(self, other: "Ttft") -> None:
        """Add the times of other prompts."""
        self.cold.merge(other.cold)
        self.warm.merge(other.warm)

    def by_kind(self) -> Iterator[tuple[str, Histogram]]:
        """Each histogram with its name."""
        return ((kind, getattr(self, kind)) for kind in KINDS)

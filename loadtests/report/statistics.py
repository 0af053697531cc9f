"""Numbers about series of numbers. Pure."""

import statistics
from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"


def percentile(values: Sequence[float], percent: int) -> float:
    """The percentile by linear interpolation; the only value when there is one.

    Raises:
        ValueError: there is no value.

    """
    if not values:
        raise ValueError("a percentile of no values: check that something was measured first")
    return values[0] if len(values) == 1 else statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line through (x, y); 0 where there is no line to draw."""
    xs = [x for x, _ in points]
    if len(set(xs)) < 2:  # noqa: PLR2004  a line needs two points
        return 0.0
    return statistics.linear_regression(xs, [y for _, y in points]).slope


def at_quarters(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """The first value, those at a quarter, half and three quarters of the way, and the last."""
    last = len(values) - 1
    first, quarter, half, three_quarters, end = (values[round(last * part / 4)] for part in range(5))
    return first, quarter, half, three_quarters, end


def sparkline(values: Sequence[float], *, width: int = 24) -> str:
    """The series in one line of text: means of `width` stretches, between its own lowest and highest."""
    if not values:
        return ""
    width = min(width, len(values))
    edges = [len(values) * bar // width for bar in range(width + 1)]
    means = [statistics.fmean(values[start:end]) for start, end in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    return "".join(BARS[int((mean - low) / span * (len(BARS) - 1)) if span else 0] for mean in means)

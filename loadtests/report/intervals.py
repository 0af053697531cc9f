"""Means over seeds, and ratios paired by seed, with 95 % intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t at 97.5 %, for 1 to 30 degrees of freedom (any table of it; NIST/SEMATECH handbook 1.3.6.7.2)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, and how far it may be off."""

    value: float
    margin: float | None
    """Half of the 95 % interval; None where one run says nothing about it."""


def mean(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed."""
    return Estimate(fmean(values), _margin(values))


def ratio(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Sum over sum, both in order of the same seeds; what both share from seed to seed does not widen the interval.

    The usual estimate of a ratio's error, from the deviations `value - ratio * other` (Cochran, Sampling Techniques,
    6.4). Not a number where the others sum to 0.
    """
    total = sum(others)
    if not total:
        return Estimate(math.nan, None)
    quotient = sum(values) / total
    margin = _margin([value - quotient * other for value, other in zip(values, others, strict=True)])
    return Estimate(quotient, None if margin is None else margin / abs(fmean(others)))


def estimate_text(estimate: Estimate, number_format: str) -> str:
    """The number with its margin, where it has one; a dash where there is no number."""
    if math.isnan(estimate.value):
        return "-"
    margin = "" if estimate.margin is None else f" ±{estimate.margin:{number_format}}"
    return f"{estimate.value:{number_format}}{margin}"


def _margin(values: Sequence[float]) -> float | None:
    degrees = len(values) - 1
    if degrees < 1:
        return None
    student_t = STUDENT_T[degrees - 1] if degrees <= len(STUDENT_T) else 1.96
    return student_t * stdev(values) / math.sqrt(len(values))

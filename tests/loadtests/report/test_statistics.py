"""Percentiles, slopes, quarters and sparklines, on worked examples."""

import pytest

from loadtests.report.statistics import at_quarters, percentile, slope, sparkline


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([7.0], 99, 7.0), ([1.0, 3.0], 50, 2.0), ([float(n) for n in range(101)], 99, 99.0), ([5.0, 1.0, 3.0], 50, 3.0)],
)
def test_percentiles_interpolate(values: list[float], percent: int, expected: float) -> None:
    """In any order of the values."""
    assert percentile(values, percent) == pytest.approx(expected)


def test_no_value_has_no_percentile() -> None:
    """And the message says what to look for."""
    with pytest.raises(ValueError, match="something was measured"):
        percentile([], 50)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0, 100), (10, 120), (20, 140)], 2.0),
        ([(0, 100), (10, 90)], -1.0),
        ([(0, 1), (1, 5), (2, 1), (3, 5)], 0.8),
        ([(5, 1)], 0.0),
        ([], 0.0),
    ],
)
def test_the_slope_is_that_of_least_squares(points: list[tuple[float, float]], expected: float) -> None:
    """And 0 where there is no line."""
    assert slope(points) == pytest.approx(expected)


def test_quarters_are_taken_along_the_series() -> None:
    """The ends included; a single value is all five."""
    assert at_quarters(list(range(0, 101, 5))) == (0, 25, 50, 75, 100)
    assert at_quarters([3]) == (3, 3, 3, 3, 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([2, 2, 2], "▁▁▁"),
        ([0, 0, 0, 0, 8, 8, 8, 8], "▁▁▁▁████"),
        ([], ""),
    ],
)
def test_a_sparkline_spans_its_own_range(values: list[float], expected: str) -> None:
    """The lowest bar is the lowest mean, the highest the highest."""
    assert sparkline(values) == expected


def test_a_long_series_is_averaged_into_its_width() -> None:
    """Every value falls into one stretch."""
    assert sparkline([0.0] * 500 + [1.0] * 500, width=4) == "▁▁██"

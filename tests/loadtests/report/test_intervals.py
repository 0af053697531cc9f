"""Means and ratios over seeds."""

import math
from random import Random

import pytest

from loadtests.report.intervals import Estimate, mean, ratio


def test_a_mean_by_hand() -> None:
    """Of 1, 2, 3: deviation 1, Student's t for two degrees of freedom 4.303, over the root of 3."""
    estimate = mean([1, 2, 3])
    assert (estimate.value, estimate.margin) == pytest.approx((2, 4.303 / math.sqrt(3)))


def test_one_seed_says_nothing_about_the_error() -> None:
    """And two do."""
    assert mean([5]) == Estimate(5, None)
    assert ratio([5], [2]) == Estimate(2.5, None)
    assert mean([5, 6]).margin == pytest.approx(12.706 * 0.5)


def test_what_seeds_have_in_common_is_no_error_of_a_ratio() -> None:
    """Half of very different numbers is half of them, for sure."""
    assert ratio([1, 20, 300], [2, 40, 600]) == Estimate(0.5, pytest.approx(0, abs=1e-9))


def test_a_ratio_is_of_sums() -> None:
    """Not the mean of 1/1 and 9/3."""
    assert ratio([1, 9], [1, 3]).value == 2.5


def test_without_a_denominator_there_is_no_ratio() -> None:
    """Rather than a wrong one."""
    assert math.isnan(ratio([1], [0]).value)


def test_intervals_contain_the_truth_as_often_as_they_say() -> None:
    """Of 2,000 intervals from five draws each, about 95 %; for a mean and for a ratio of paired draws."""
    rng, num_means, num_ratios = Random(1), 0, 0
    for _ in range(2000):
        others = [rng.gauss(10, 2) for _ in range(5)]
        values = [0.5 * other + rng.gauss(0, 0.1) for other in others]
        means, ratios = mean(others), ratio(values, others)
        assert means.margin is not None
        assert ratios.margin is not None
        num_means += abs(means.value - 10) < means.margin
        num_ratios += abs(ratios.value - 0.5) < ratios.margin
    assert num_means / 2000 == pytest.approx(0.95, abs=0.015)
    assert num_ratios / 2000 == pytest.approx(0.95, abs=0.015)

"""Numbers of hand-made records."""

import math

import pytest

from loadtests.bench.numbers import comparisons, numbers, rows, verdict_lines
from loadtests.client.answers import Outcome
from tests.loadtests.bench.builders import record, result

SLO_S = 1.0


def test_a_cell_in_numbers() -> None:
    """Of two complete answers, one too late, a refusal and a cut answer; rates are ratios of sums."""
    records = [
        record(ttft_s=0.5, end_to_end_s=2.0, prompt_tokens=100, cached_tokens=0),
        record(ttft_s=1.5, end_to_end_s=4.0, prompt_tokens=300, cached_tokens=200, replica="r1"),
        record(outcome=Outcome.REFUSED, status=429, ttft_s=None, prompt_tokens=0),
        record(outcome=Outcome.CUT, ttft_s=None, prompt_tokens=0),
    ]
    assert numbers(result("x", records=records), ttft_slo_s=SLO_S) == pytest.approx(
        {
            "hit_rate": 200 / 400,
            "ttft_mean_s": 1.0,
            "ttft_p50_s": 1.0,
            "ttft_p95_s": 1.45,
            "ttft_p99_s": 1.49,
            "end_to_end_s": 3.0,
            "goodput_rps": 1 / 10,
            "good_share": 1 / 4,
            "failed_share": 1 / 4,
            "rejected_share": 1 / 4,
            "imbalance": 1.0,
        }
    )


def test_all_on_one_replica_is_as_uneven_as_there_are_replicas() -> None:
    """Replicas that got nothing count in the mean."""
    some = result("x", num_replicas=4, records=[record(), record()])
    assert numbers(some, ttft_slo_s=SLO_S)["imbalance"] == 4.0


def test_answers_of_unknown_replicas_are_not_taken_for_one_replicas() -> None:
    """Where the server does not say who gave them."""
    some = result("x", num_replicas=4, records=[record(), record(replica=None)])
    assert math.isnan(numbers(some, ttft_slo_s=SLO_S)["imbalance"])


def test_without_any_answer_there_is_no_time() -> None:
    """Not zero, which would be the best of all."""
    some = result("x", records=[record(outcome=Outcome.NO_ANSWER, status=None, ttft_s=None, prompt_tokens=0)])
    found = numbers(some, ttft_slo_s=SLO_S)
    assert math.isnan(found["ttft_mean_s"])
    assert math.isnan(found["hit_rate"])
    assert found["failed_share"] == 1.0


def test_rows_are_means_over_repetitions() -> None:
    """With the margin of their interval, and the decisions' reasons of all."""
    cells = [result("x", 0, ttft_s=0.4), result("x", 1, ttft_s=0.6), result("x", 0, ttft_s=9.0, load=0.8)]
    low, high = rows(cells, ttft_slo_s=SLO_S)
    assert (low.load, high.load) == (0.5, 0.8)
    assert low.metric_to_mean["ttft_mean_s"].value == pytest.approx(0.5)
    assert low.metric_to_mean["ttft_mean_s"].margin == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert high.metric_to_mean["ttft_mean_s"].margin is None
    assert low.reason_to_count == {"ring": 2}


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ((0.50, 0.60, 0.70), (1.00, 1.20, 1.40), "ahead"),
        ((1.00, 1.20, 1.40), (0.50, 0.60, 0.70), "behind"),
        ((0.50, 1.50, 0.70), (1.00, 0.60, 1.40), "no difference shown"),
        ((0.50,), (1.00,), "no difference shown"),
    ],
)
def test_the_verdict_needs_the_whole_interval(ours: tuple[float, ...], theirs: tuple[float, ...], verdict: str) -> None:
    """Of the ratio of mean TTFT, paired by repetition; one repetition shows nothing."""
    cells = [result("ours", number, ttft_s=value) for number, value in enumerate(ours)]
    cells += [result("theirs", number, ttft_s=value) for number, value in enumerate(theirs)]
    (found,) = comparisons(cells, ours="ours", ttft_slo_s=SLO_S)
    assert found.metric_to_ratio["ttft_mean_s"].value == pytest.approx(sum(ours) / sum(theirs))
    assert found.verdict == verdict


@pytest.mark.parametrize(("failing", "verdict"), [("ours", "no difference shown"), ("theirs", "ahead")])
def test_nobody_is_ahead_by_answering_less(failing: str, verdict: str) -> None:
    """Those who answer only what is quick have the best times."""
    refused = record(outcome=Outcome.REFUSED, status=429, ttft_s=None, prompt_tokens=0)
    cells = [
        result(name, number, records=[record(ttft_s=ttft_s * (1 + number)), *([refused] if name == failing else [])])
        for name, ttft_s in (("ours", 0.5), ("theirs", 1.0))
        for number in range(3)
    ]
    (found,) = comparisons(cells, ours="ours", ttft_slo_s=SLO_S)
    assert found.verdict == verdict


def test_only_repetitions_that_both_have_are_paired() -> None:
    """After an early end one may be missing."""
    cells = [result("ours", 0, ttft_s=1.0), result("ours", 1, ttft_s=5.0), result("theirs", 0, ttft_s=2.0)]
    (found,) = comparisons(cells, ours="ours", ttft_slo_s=SLO_S)
    assert found.num_repetitions == 1
    assert found.metric_to_ratio["ttft_mean_s"].value == pytest.approx(0.5)


def test_verdicts_in_a_line_for_each_load() -> None:
    """By verdict, then the others' names."""
    times = {"ours": (0.5, 0.6), "slow": (5.0, 6.0), "slower": (50.0, 60.0), "fast": (0.05, 0.06), "like": (0.4, 0.8)}
    cells = [result(name, number, ttft_s=each) for name, values in times.items() for number, each in enumerate(values)]
    lines = verdict_lines(comparisons(cells, ours="ours", ttft_slo_s=SLO_S))
    assert lines == ["chat, load 0.5: ahead of slow, slower; behind fast; no difference shown against like"]

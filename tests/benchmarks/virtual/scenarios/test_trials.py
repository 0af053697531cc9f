"""What an event changes, on worked examples."""

from collections.abc import Sequence
from math import inf, isnan

import pytest

from benchmarks.virtual.scenarios.trials import (
    BACK_RATIO,
    NUM_AFTER,
    NUM_BEFORE,
    NUM_SHARED,
    STRIDE,
    WINDOW,
    Excerpt,
    Trial,
    cut,
    ratio_after,
    ratio_before,
    until_back,
)
from loadtests.replay.results import Replay, RequestRecord
from router import ReplicaId
from tests.benchmarks.virtual.scenarios.records import make_record


def make_run(records: Sequence[RequestRecord]) -> Replay:
    """Of which only the records matter."""
    return Replay(tuple(records), (), (), len(records), 0, 0, len(records), 0.0, {}, {}, 0.0)


def make_excerpt(after: Sequence[int], *, before: Sequence[int] = (50,)) -> Excerpt:
    """Requests with so many cached tokens out of 100."""
    records = [make_record(float(number), 0, cached_tokens=cached) for number, cached in enumerate((*before, *after))]
    return Excerpt(records[: len(before)], records[len(before) :], ())


def make_trial(disturbed: Excerpt, undisturbed: Excerpt) -> Trial:
    """Nobody comes or goes."""
    return Trial(disturbed, undisturbed, frozenset({ReplicaId("replica-0")}), None)


def test_a_run_is_cut_where_things_happen() -> None:
    """The last requests before the event, the first after it, and the first since it is known, whatever their order."""
    records = [make_record(float(number), 0) for number in range(5000)]
    excerpt = cut(make_run(records[::-1]), at_s=1000.0, known_s=1002.5)
    assert [each.arrival_s for each in excerpt.before] == list(range(1000 - NUM_BEFORE, 1000))
    assert [each.arrival_s for each in excerpt.after] == list(range(1000, 1000 + NUM_AFTER))
    assert [each.arrival_s for each in excerpt.since_known] == list(range(1003, 1003 + NUM_SHARED))


def test_an_event_soon_after_the_start_has_little_before_it() -> None:
    """And no request twice."""
    excerpt = cut(make_run([make_record(float(number), 0) for number in range(10)]), at_s=3.0, known_s=3.0)
    assert [len(each) for each in (excerpt.before, excerpt.after, excerpt.since_known)] == [3, 7, 7]


def test_shares_are_of_what_was_computed_by_who_is_there() -> None:
    """Three replicas compute 60, 90 and nothing; what one that is gone computed counts for nobody."""
    records = [
        make_record(0, 0, cached_tokens=40),
        make_record(1, 1, cached_tokens=10),
        make_record(2, 7),
    ]
    shares = Excerpt((), (), records).shares([ReplicaId(f"replica-{number}") for number in range(3)])
    assert list(shares.values()) == pytest.approx([60 / 50, 90 / 50, 0])


def test_hit_rates_are_ratios_of_sums_over_all_trials() -> None:
    """80 and 0 of 100 tokens instead of 100 and 60: half as much, whatever each trial's own ratio."""
    trials = [
        make_trial(make_excerpt([80], before=[50]), make_excerpt([100], before=[50])),
        make_trial(make_excerpt([0], before=[20]), make_excerpt([60], before=[20])),
    ]
    assert ratio_after(trials, 0) == pytest.approx(0.5)
    assert ratio_before(trials) == 1


def test_no_hits_without_the_event_have_no_ratio() -> None:
    """Not even infinite."""
    assert isnan(ratio_after([make_trial(make_excerpt([10]), make_excerpt([0]))], 0))


@pytest.mark.parametrize(("num_lost", "expected"), [(0, 0), (1000, 1000 - 0.05 * WINDOW), (NUM_AFTER, inf)])
def test_hits_are_back_when_a_whole_window_is_near_what_it_would_be(num_lost: int, expected: float) -> None:
    """After so many requests without a hit, a window may contain a twentieth of them."""
    lost = [0] * num_lost + [50] * (NUM_AFTER - num_lost)
    trial = make_trial(make_excerpt(lost), make_excerpt([50] * NUM_AFTER))
    until = until_back([trial])
    assert until == (expected if expected in (0, inf) else -(-expected // STRIDE) * STRIDE)
    assert until == inf or ratio_after([trial], int(until)) >= BACK_RATIO

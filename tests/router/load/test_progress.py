"""How fast a replica is, and how far it has come, by guess. Work is in seconds of an engine of the model's speed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.load.progress import FORGET, PRIOR_S, Progress
from router.state import ProgressState


def test_before_a_first_prefill_a_replica_is_as_fast_as_the_model() -> None:
    """It has done nothing while it had nothing to do, and then a second of work a second."""
    progress = Progress()
    assert (progress.speed, progress.work_s(now=5)) == (1, 0)
    progress.start(now=5)
    assert progress.work_s(now=9) == 4


def test_the_guess_goes_by_what_was_computed_before() -> None:
    """1 s of work took 3 s, in addition to the prior second at the model's speed: half as fast, so 1.5 s later 0.75 s
    of work are done.
    """
    progress = Progress()
    progress.start(now=10)
    progress.prefilled(1, now=13)
    assert progress.speed == 0.5
    assert progress.work_s(now=14.5) == 0.75


def test_idle_time_is_no_work() -> None:
    """The next prompt began at 100 s, not when the last one ended."""
    progress = Progress()
    progress.start(now=0)
    progress.prefilled(2, now=2)
    progress.start(now=100)
    assert progress.work_s(now=100.5) == 0.5
    progress.prefilled(4, now=101)
    assert progress.speed == pytest.approx((PRIOR_S + FORGET * 2 + 4) / (PRIOR_S + FORGET * 2 + 1))


def test_news_may_be_earlier_than_was_expected() -> None:
    """A prompt that is told of before it can have begun took no time, and no replica is infinitely fast."""
    progress = Progress()
    progress.start(now=10)
    assert progress.work_s(now=9) == 0
    progress.prefilled(1, now=9)
    assert progress.speed == 2


def test_what_was_never_begun_took_no_time() -> None:
    """A receipt of a prompt that was not booked here tells of work, and not how long it took."""
    progress = Progress()
    progress.prefilled(1, now=50)
    assert progress.export(now=50) == ProgressState(elapsed_s=0, work_s=1, seconds=0)


@given(speed=st.floats(0.1, 10), work_s=st.floats(0.05, 10))
def test_the_speed_is_learned(speed: float, work_s: float) -> None:
    """As far as the prior second lets it: 50 prefills count."""
    progress = Progress()
    now = 0.0
    progress.start(now=now)
    for _ in range(1000):
        now += work_s / speed
        progress.prefilled(work_s, now=now)
    work = work_s / (1 - FORGET)
    assert progress.speed == pytest.approx((PRIOR_S + work) / (PRIOR_S + work / speed), rel=1e-6)


def test_a_peers_longer_experience_is_taken_over() -> None:
    """The place in the present prompt comes with it; better knowledge here stays."""
    progress = Progress()
    progress.adopt(ProgressState(work_s=3, seconds=1, elapsed_s=0.5), now=50)
    assert (progress.speed, progress.work_s(now=50)) == (2, 1)
    assert progress.export(now=50.5) == ProgressState(work_s=3, seconds=1, elapsed_s=1)
    progress.adopt(ProgressState(work_s=1, seconds=1, elapsed_s=0), now=50)
    assert (progress.speed, progress.work_s(now=50)) == (2, 1)


def test_a_peer_that_counts_in_tokens_says_nothing() -> None:
    """An older router's state has seconds, and no work: that is not an engine that did nothing in all that time."""
    progress = Progress()
    progress.adopt(ProgressState(elapsed_s=1, seconds=40), now=50)
    assert progress.speed == 1


def test_prompts_that_end_together_had_their_steps_together() -> None:
    """Two of 1 s and one step of 0.5 s took 2.5 s: as fast as the model, and not faster for being two."""
    progress = Progress()
    progress.start(now=0)
    progress.prefilled(1, steps_s=0.5, now=2.5)
    progress.prefilled(1, steps_s=0.5, now=2.5)
    assert progress.export(now=2.5).work_s == pytest.approx(FORGET * 1.5 + 1)
    assert progress.speed == pytest.approx(1, abs=0.01)

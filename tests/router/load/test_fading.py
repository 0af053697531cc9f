"""Amounts that fade together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.load.fading import MAX_EPOCH_HALF_LIVES, Fading


def test_an_amount_halves_in_its_half_life() -> None:
    """100 at 0 s, and 100 more after one half-life: 150 then, 75 after another."""
    fading = Fading(half_life_s=10)
    fading.advance(now=0)
    stored = fading.stored(100)
    fading.advance(now=10)
    stored += fading.stored(100)
    assert fading.faded(stored) == pytest.approx(150)
    fading.advance(now=20)
    assert fading.faded(stored) == pytest.approx(75)


@given(steps_s=st.lists(st.floats(0, 400), min_size=1, max_size=40))
def test_epochs_change_nothing(steps_s: list[float]) -> None:
    """Whoever follows the factors sees plain exponential decay, however long it goes on."""
    fading, now, stored, expected = Fading(half_life_s=1), 0.0, 0.0, 0.0
    for step_s in steps_s:
        now += step_s
        factor = fading.advance(now=now)
        stored *= 1.0 if factor is None else factor
        expected = expected * 0.5**step_s + 100
        stored += fading.stored(100)
        assert fading.faded(stored) == pytest.approx(expected)


def test_an_epoch_ends_before_floats_do() -> None:
    """The factor is returned once."""
    fading = Fading(half_life_s=1)
    assert fading.advance(now=0) is None
    assert fading.advance(now=MAX_EPOCH_HALF_LIVES) == 0.5**MAX_EPOCH_HALF_LIVES
    assert fading.advance(now=MAX_EPOCH_HALF_LIVES + 1) is None
    assert fading.faded(fading.stored(7)) == 7

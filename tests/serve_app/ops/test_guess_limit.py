"""How often the token may be guessed."""

import pytest

from serve_app.ops.guess_limit import GuessLimit
from tests.serve_app.ops.builders import Clock


@pytest.fixture
def clock() -> Clock:
    """Of the limit."""
    return Clock(1000.0)


@pytest.fixture
def limit(clock: Clock) -> GuessLimit:
    """Two wrong guesses from one address in ten seconds, and three in all."""
    return GuessLimit(max_wrong=2, max_wrong_in_all=3, window_s=10, clock=clock)


def test_one_address_waits_and_another_does_not(limit: GuessLimit, clock: Clock) -> None:
    """Until the first of its wrong guesses is as old as the window."""
    for second, wait_s in ((0, 0), (4, 0), (5, 5)):
        clock.now_s = 1000.0 + second
        assert limit.wait_s("one") == wait_s
        if not wait_s:
            limit.count("one")
    assert limit.wait_s("another") == 0
    clock.now_s = 1009.5
    assert limit.wait_s("one") == 0.5
    clock.now_s = 1010.0
    assert limit.wait_s("one") == 0
    limit.count("one")
    assert limit.wait_s("one") == 4  # for the second one


def test_changing_addresses_is_of_no_use(limit: GuessLimit, clock: Clock) -> None:
    """All together have their limit."""
    for number in range(3):
        assert limit.wait_s(f"address {number}") == 0
        limit.count(f"address {number}")
        clock.now_s += 1
    assert limit.wait_s("address 3") == 7
    clock.now_s += 7
    assert limit.wait_s("address 3") == 0


def test_no_more_is_remembered_than_may_be_guessed(limit: GuessLimit, clock: Clock) -> None:
    """However many try, and for however long."""
    for number in range(1000):
        if not limit.wait_s(f"address {number}"):
            limit.count(f"address {number}")
        assert len(limit._wrong) <= 3
        clock.now_s += 1
    clock.now_s += 10
    assert limit.wait_s("one") == 0
    assert not limit._wrong

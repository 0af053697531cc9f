"""What other routers have decided and is not known here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.load.lateness import FORGET, Lateness


def test_alone_nothing_is_unseen() -> None:
    """However late one's own news are."""
    lateness = Lateness()
    for _ in range(100):
        lateness.decided(by_another=False)
        lateness.told(delay_s=1)
    assert lateness.unseen_requests(requests_per_s=1000) == 0


def test_without_delay_nothing_is_unseen() -> None:
    """However many others there are."""
    lateness = Lateness()
    for _ in range(100):
        lateness.decided(by_another=True)
        lateness.told(delay_s=0)
    assert lateness.unseen_requests(requests_per_s=1000) == 0


@pytest.mark.parametrize("num_routers", [1, 2, 4, 8])
def test_unseen_are_the_others_requests_of_a_delay(num_routers: int) -> None:
    """40 a second in all, and news that take 250 ms: ten, without one's own."""
    lateness = Lateness()
    for number in range(100 * num_routers):
        lateness.decided(by_another=number % num_routers != 0)
        lateness.told(delay_s=0.25)
    expected = 10 * (num_routers - 1) / num_routers
    assert lateness.unseen_requests(requests_per_s=40) == pytest.approx(expected, rel=0.15)


@given(st.lists(st.booleans(), max_size=300), st.lists(st.floats(0, 10), max_size=300))
def test_it_is_never_more_than_all_requests_of_the_longest_delay(decisions: list[bool], delays_s: list[float]) -> None:
    """The result is never negative."""
    lateness = Lateness()
    for by_another in decisions:
        lateness.decided(by_another=by_another)
    for delay_s in delays_s:
        lateness.told(delay_s=delay_s)
    assert 0 <= lateness.unseen_requests(requests_per_s=7) <= 7 * max(delays_s, default=0) * (1 + 1e-9)


def test_the_last_fifty_count() -> None:
    """Others that are gone are forgotten: each decision of one's own leaves `FORGET` of them."""
    lateness = Lateness()
    lateness.adopt(others_share=0.5, delay_s=1)
    for _ in range(50):
        lateness.decided(by_another=False)
    assert lateness.unseen_requests(requests_per_s=1) == pytest.approx(0.5 * FORGET**50)


def test_a_joining_router_takes_what_it_does_not_know_from_its_peer() -> None:
    """What it has seen itself stays."""
    lateness = Lateness()
    lateness.told(delay_s=1)
    own_delay_s = lateness.delay_s
    lateness.adopt(others_share=0.75, delay_s=0.25)
    assert (lateness.others_share, lateness.delay_s) == (0.75, own_delay_s)
    lateness.adopt(others_share=0.5, delay_s=0.5)
    assert (lateness.others_share, lateness.delay_s) == (0.75, own_delay_s)

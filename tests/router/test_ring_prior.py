"""Trust in the ring's owner, learned."""

from hypothesis import given
from hypothesis import strategies as st

from router.ring_prior import MAX_SHARE, RingPrior


def test_it_goes_by_the_share_that_was_found() -> None:
    """Of 1,000 unknown tokens 30 were cached at the owner, then 100 of 1,000 more: ten times as much, 0.4 at most."""
    prior = RingPrior()
    assert prior.share == 0
    prior.learn(unknown_tokens=1000, found_tokens=30)
    assert prior.share == 0.3
    prior.learn(unknown_tokens=1000, found_tokens=100)
    assert prior.share == 0.4


def test_where_everything_is_known_it_is_forgotten() -> None:
    """A thousand placements without a surprise."""
    prior = RingPrior()
    prior.learn(unknown_tokens=1000, found_tokens=1000)
    for _ in range(1000):
        prior.learn(unknown_tokens=1000, found_tokens=0)
    assert prior.share < 0.01


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1))))
def test_it_is_a_share(placements: list[tuple[int, float]]) -> None:
    """Between 0 and the most, whatever happens."""
    prior = RingPrior()
    for unknown_tokens, share in placements:
        prior.learn(unknown_tokens=unknown_tokens, found_tokens=int(unknown_tokens * share))
        assert 0 <= prior.share <= MAX_SHARE

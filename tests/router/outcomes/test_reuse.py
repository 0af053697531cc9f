"""What engines reused lately."""

from hypothesis import given
from hypothesis import strategies as st

from router import ReplicaId
from router.outcomes.reuse import Reuse

HERE, THERE = ReplicaId("here"), ReplicaId("there")


def test_it_goes_by_tokens_and_by_replica() -> None:
    """400 of 1,000 tokens cached here; nothing is known of there."""
    reuse = Reuse()
    reuse.learn(HERE, prompt_tokens=900, cached_tokens=400)
    reuse.learn(HERE, prompt_tokens=145, cached_tokens=20)  # the first counts 0.95 by now
    assert reuse.share(HERE) == 400 / 1000
    assert reuse.share(THERE) == 0


def test_it_follows_an_engine_that_reuses_nothing_any_more() -> None:
    """After a hundred prompts of one size."""
    reuse = Reuse()
    reuse.learn(HERE, prompt_tokens=100, cached_tokens=100)
    for _ in range(100):
        reuse.learn(HERE, prompt_tokens=100, cached_tokens=0)
    assert reuse.share(HERE) < 0.01


def test_a_replica_that_is_gone_is_forgotten() -> None:
    """Also one that never said anything."""
    reuse = Reuse()
    reuse.learn(HERE, prompt_tokens=100, cached_tokens=100)
    reuse.forget(HERE)
    reuse.forget(THERE)
    assert reuse.share(HERE) == 0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1))))
def test_it_is_a_share(prompts: list[tuple[int, float]]) -> None:
    """Between 0 and 1, whatever is reported."""
    reuse = Reuse()
    for prompt_tokens, share in prompts:
        reuse.learn(HERE, prompt_tokens=prompt_tokens, cached_tokens=int(prompt_tokens * share))
        assert 0 <= reuse.share(HERE) <= 1

"""How much of the answer before is found again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.belief.continuations import FORGET, Continuations


def test_until_one_has_told_all_is_expected() -> None:
    """Then its word counts for nearly all: 100 tokens expected and half of them found, in addition to one of one."""
    continuations = Continuations()
    assert continuations.share == 1
    continuations.learn(expected_tokens=100, found_tokens=50)
    assert continuations.share == pytest.approx((FORGET + 50) / (FORGET + 100))


def test_more_than_the_answer_is_no_more_than_all_of_it() -> None:
    """What else of the prompt was found has other reasons."""
    continuations = Continuations()
    continuations.learn(expected_tokens=100, found_tokens=1000)
    assert continuations.share == 1


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 2000)), max_size=50))
def test_it_is_a_share(learned: list[tuple[int, int]]) -> None:
    """Whatever is told, in tokens of the answers, where later ones count more."""
    continuations = Continuations()
    for expected_tokens, found_tokens in learned:
        continuations.learn(expected_tokens=expected_tokens, found_tokens=found_tokens)
    weights = [FORGET**age for age in reversed(range(len(learned)))]
    of_first = FORGET ** len(learned)
    expected = of_first + sum(weight * each for weight, (each, _) in zip(weights, learned, strict=True))
    found = of_first + sum(weight * min(each) for weight, each in zip(weights, learned, strict=True))
    assert 0 <= continuations.share <= 1
    assert continuations.share == pytest.approx(found / expected)


def test_a_change_of_template_is_learned_within_twenty_turns() -> None:
    """Answers were always found, and from now on none is."""
    continuations = Continuations()
    for _ in range(100):
        continuations.learn(expected_tokens=100, found_tokens=100)
    for _ in range(20):
        continuations.learn(expected_tokens=100, found_tokens=0)
    assert continuations.share < 0.4


def test_the_counts_of_a_peer_that_has_seen_more_are_taken_over() -> None:
    """One that has seen less is not."""
    continuations = Continuations()
    continuations.adopt(expected_tokens=200, found_tokens=50)
    assert continuations.share == 0.25
    continuations.adopt(expected_tokens=100, found_tokens=100)
    assert continuations.share == 0.25

"""Who continues whom."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.replay.sessions import predecessors
from router import BlockHash


def derive(*prompts: Sequence[int]) -> list[int | None]:
    """For prompts given by their blocks."""
    return list(predecessors([tuple(map(BlockHash, blocks)) for blocks in prompts]))


STORIES = {
    "a next turn": ([(1, 2), (1, 2, 3), (1, 2, 3, 4)], [None, 0, 1]),
    "the deepest one counts": ([(1, 2), (1, 2, 3), (1, 2, 9), (1, 2, 3, 4)], [None, 0, 0, 1]),
    "of equal ones the latest": ([(1, 2), (1, 2), (1, 2, 3)], [None, 0, 1]),
    "an earlier one only": ([(1, 2, 3), (1, 2)], [None, None]),
    "short ones link nothing": ([(), (1,), ()], [None, None, None]),
}


@pytest.mark.parametrize("story", STORIES)
def test_a_request_continues_the_one_whose_last_block_it_contains(story: str) -> None:
    """Each among 20 requests that have nothing in common with it, so that nothing is a system prompt."""
    prompts, expected = STORIES[story]
    strangers = [(100 + number, 200 + number) for number in range(100)]
    assert derive(*prompts, *strangers) == expected + [None] * 100


def test_a_prefix_that_many_have_is_nobodys_conversation() -> None:
    """All begin with 1-2: a request with just that is continued by none, and one of 1-2-3 is."""
    prompts = [(1, 2), (1, 2, 3), (1, 2, 4), (1, 2, 3, 5), (1, 2)]
    assert derive(*prompts) == [None, None, None, 1, None]


@given(st.lists(st.lists(st.integers(0, 1), max_size=5), max_size=30))
def test_a_predecessor_is_earlier_and_its_prompt_is_contained(paths: list[list[int]]) -> None:
    """The whole of it, because hashes are chained."""
    prompts = [tuple(hash(tuple(path[: depth + 1])) for depth in range(len(path))) for path in paths]
    for position, predecessor in enumerate(derive(*prompts)):
        if predecessor is not None:
            assert predecessor < position
            earlier = prompts[predecessor]
            assert earlier == prompts[position][: len(earlier)]

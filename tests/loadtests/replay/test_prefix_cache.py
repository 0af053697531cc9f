"""The engine's cache."""

from hypothesis import given
from hypothesis import strategies as st

from loadtests.replay.prefix_cache import PrefixCache
from router import BlockHash


def prompt(*blocks: int) -> tuple[BlockHash, ...]:
    """Its blocks."""
    return tuple(map(BlockHash, blocks))


def test_leaves_go_first_and_the_longest_unused_of_them() -> None:
    """Five blocks fit. 1-2-3 is older than 1-2-4, so 3 goes, then 4, then their stem."""
    cache = PrefixCache(capacity_blocks=5)
    cache.use(prompt(1, 2, 3))
    cache.use(prompt(1, 2, 4))
    steps: list[tuple[tuple[BlockHash, ...], dict[tuple[int, ...], int]]] = [
        (prompt(5), {(1, 2, 3): 3, (1, 2, 4): 3}),
        (prompt(6), {(1, 2, 3): 2, (1, 2, 4): 3}),
        (prompt(5, 7), {(1, 2, 4): 2}),
        (prompt(8), {(1, 2): 1, (5, 7): 2, (6,): 1}),
        (prompt(9), {(1,): 0, (5, 7): 2, (6,): 1}),
    ]
    for used, run_to_num_held in steps:
        cache.use(used)
        assert {run: cache.num_held(prompt(*run)) for run in run_to_num_held} == run_to_num_held
    assert len(cache) == 5


def test_of_a_prompt_larger_than_the_cache_the_beginning_is_held() -> None:
    """That is the part that can be reused."""
    cache = PrefixCache(capacity_blocks=2)
    cache.use(prompt(1, 2, 3))
    assert cache.num_held(prompt(1, 2, 3)) == 2


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), max_size=30), st.integers(1, 6))
def test_a_held_block_has_its_stem_and_no_more_fit(paths: list[list[int]], capacity_blocks: int) -> None:
    """Of every prompt ever used, what is held is a leading run."""
    prompts = [tuple(BlockHash(hash(tuple(path[: depth + 1]))) for depth in range(len(path))) for path in paths]
    cache = PrefixCache(capacity_blocks=capacity_blocks)
    for used in prompts:
        cache.use(used)
        assert len(cache) <= capacity_blocks
        assert cache.num_held(used) == min(len(used), capacity_blocks)
        for other in prompts:
            num_held = cache.num_held(other)
            assert not any(cache.num_held(other[index : index + 1]) for index in range(num_held, len(other)))

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
    for used, run_to_num_cached in steps:
        cache.use(used)
        assert {run: cache.num_cached(prompt(*run)) for run in run_to_num_cached} == run_to_num_cached
    assert len(cache) == 5


def test_of_a_prompt_larger_than_the_cache_the_beginning_is_held() -> None:
    """That is the part that can be reused."""
    cache = PrefixCache(capacity_blocks=2)
    cache.use(prompt(1, 2, 3))
    assert cache.num_cached(prompt(1, 2, 3)) == 2


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), max_size=30), st.integers(1, 6))
def test_a_held_block_has_its_stem_and_no_more_fit(paths: list[list[int]], capacity_blocks: int) -> None:
    """Of every prompt ever used, what is held is a leading run."""
    prompts = [tuple(BlockHash(hash(tuple(path[: depth + 1]))) for depth in range(len(path))) for path in paths]
    cache = PrefixCache(capacity_blocks=capacity_blocks)
    for used in prompts:
        cache.use(used)
        assert len(cache) <= capacity_blocks
        assert cache.num_cached(used) == min(len(used), capacity_blocks)
        for other in prompts:
            num_cached = cache.num_cached(other)
            assert not any(cache.num_cached(other[index : index + 1]) for index in range(num_cached, len(other)))


def test_what_a_request_uses_is_not_evicted() -> None:
    """Three blocks fit. While 1-2 is in use, 3 and 4 have to share what is left, and together with 5 it is too much."""
    cache = PrefixCache(capacity_blocks=3)
    blocks = cache.store(prompt(1, 2))
    cache.use(prompt(3))
    cache.use(prompt(4))
    assert cache.block_hashes() == {1, 2, 4}
    more = cache.store(prompt(5, 6))
    assert cache.block_hashes() == {1, 2, 5, 6}
    cache.release(blocks)
    assert cache.block_hashes() == {1, 5, 6}
    cache.release(more)
    cache.use(prompt(7))
    assert cache.block_hashes() == {5, 6, 7}


def test_a_shared_block_is_in_use_until_the_last_request_is_over() -> None:
    """One block fits."""
    cache = PrefixCache(capacity_blocks=1)
    first = cache.store(prompt(1))
    second = cache.reuse(prompt(1))
    cache.release(first)
    cache.use(prompt(2))
    assert cache.block_hashes() == {1}
    cache.release(second)
    cache.use(prompt(2))
    assert cache.block_hashes() == {2}


def test_a_block_computed_twice_takes_room_twice() -> None:
    """Three fit; what was computed first is read, so it stays when the other copy is evicted."""
    cache = PrefixCache(capacity_blocks=3)
    cache.release(cache.store(prompt(1)))
    cache.release(cache.store(prompt(1)))
    cache.use(prompt(2))
    assert (len(cache), cache.block_hashes()) == (2, {1, 2})
    cache.use(prompt(1))
    cache.use(prompt(3))
    assert cache.block_hashes() == {1, 2, 3}
    cache.use(prompt(4))
    assert cache.block_hashes() == {1, 3, 4}


def test_what_is_in_use_is_counted() -> None:
    """Of 1-2-3-4, all but 3 and 4 are in use: 3 can be evicted, and 4 was."""
    cache = PrefixCache(capacity_blocks=3)
    cache.use(prompt(1, 2, 3, 4))
    cache.reuse(prompt(1, 2))
    assert cache.num_blocks_in_use == 2
    assert [cache.num_shared(prompt(*blocks)) for blocks in [(1, 2, 3, 4), (1,), (5, 1), ()]] == [2, 1, 0, 0]


def test_blocks_that_are_not_full_take_room() -> None:
    """Two of three."""
    cache = PrefixCache(capacity_blocks=3)
    cache.use(prompt(1, 2, 3))
    cache.set_partial_blocks(2)
    assert cache.block_hashes() == {1}
    cache.set_partial_blocks(0)
    cache.use(prompt(1, 4))
    assert cache.block_hashes() == {1, 4}

"""Replaying prompts through one cache."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from router import BlockHash
from serve_app.audit.cache_replay import CacheReplay, Keys
from tests.builders import BLOCK_SIZE, make_request

prompts = st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=6), min_size=1, max_size=25)


def hashes(path: Sequence[int]) -> tuple[BlockHash, ...]:
    """Of a prompt with so many full blocks."""
    return tuple(make_request("a", *path).block_hashes)


@given(prompts)
def test_with_room_for_all_it_is_the_longest_prefix_seen(paths: list[list[int]]) -> None:
    """Of which the prompt's last token is never reused."""
    replay = CacheReplay(capacity_tokens=10**6, block_size=BLOCK_SIZE)
    seen: set[tuple[int, ...]] = set()
    for path in paths:
        num_tokens = len(path) * BLOCK_SIZE
        held = max((end for end in range(len(path) + 1) if tuple(path[:end]) in seen), default=0)
        expected = min(held, (num_tokens - 1) // BLOCK_SIZE) * BLOCK_SIZE
        assert replay.add(Keys(num_tokens, hashes(path))) == expected
        seen.update(tuple(path[:end]) for end in range(1, len(path) + 1))
    assert replay.sums.num_requests == len(paths)
    assert replay.sums.offered_tokens == replay.sums.cached_tokens + replay.sums.computed_tokens


def test_what_is_used_again_stays() -> None:
    """The least recently used one goes."""
    replay = CacheReplay(capacity_tokens=4 * BLOCK_SIZE, block_size=BLOCK_SIZE)
    one, two, three = ((number, number) for number in (1, 2, 3))
    for path in (one, two, one, three):
        replay.add(Keys(2 * BLOCK_SIZE + 1, hashes(path)))
    assert replay.add(Keys(2 * BLOCK_SIZE + 1, hashes(one))) == 2 * BLOCK_SIZE
    assert replay.add(Keys(2 * BLOCK_SIZE + 1, hashes(two))) == 0


def test_branches_are_what_several_prompts_have() -> None:
    """In the order of the prompts, each with what goes on after it."""
    replay = CacheReplay(capacity_tokens=10**6, block_size=BLOCK_SIZE)
    for path in ((1, 1, 1), (1, 1, 2), (1, 1, 2), (2, 2)):
        replay.add(Keys(len(path) * BLOCK_SIZE, hashes(path)))
    found = [
        (each.depth, each.start_blocks, each.num_blocks, each.num_requests, each.num_ways_on)
        for each in replay.branches(9)
    ]
    assert found == [(0, 0, 2, 3, 2), (1, 2, 1, 2, 1)]


@given(prompts, st.integers(1, 12))
def test_a_cache_keeps_within_its_size_and_no_prompt_is_all_reused(paths: list[list[int]], num_blocks: int) -> None:
    """Of any size; what it reuses are whole blocks."""
    replay = CacheReplay(capacity_tokens=num_blocks * BLOCK_SIZE, block_size=BLOCK_SIZE)
    for path in paths:
        num_tokens = len(path) * BLOCK_SIZE
        cached = replay.add(Keys(num_tokens, hashes(path)))
        assert cached % BLOCK_SIZE == 0
        assert 0 <= cached < num_tokens
        assert cached <= num_blocks * BLOCK_SIZE
    assert sum(branch.num_blocks for branch in replay.branches(99)) <= num_blocks


def test_the_last_token_of_a_prompt_is_never_reused() -> None:
    """An engine has to compute it, as it answers by it: the block that it fills is computed again."""
    replay = CacheReplay(capacity_tokens=10**6, block_size=BLOCK_SIZE)
    assert replay.add(Keys(2 * BLOCK_SIZE, hashes((1, 1)))) == 0
    assert replay.add(Keys(2 * BLOCK_SIZE, hashes((1, 1)))) == BLOCK_SIZE
    assert replay.add(Keys(2 * BLOCK_SIZE + 1, hashes((1, 1)))) == 2 * BLOCK_SIZE


def test_a_prompt_of_less_than_a_block_is_counted() -> None:
    """Though nothing of it can be cached."""
    replay = CacheReplay(capacity_tokens=10**6, block_size=BLOCK_SIZE)
    assert replay.add(Keys(3, ())) == replay.add(Keys(0, ())) == 0
    assert replay.sums == (2, 3, 0)
    assert replay.sums.hit_rate == 0.0
    assert replay.branches(5) == []


def test_no_more_branches_are_told_than_wanted() -> None:
    """Those that saved most, with what they stand on."""
    replay = CacheReplay(capacity_tokens=10**6, block_size=BLOCK_SIZE)
    for first in range(1, 5):
        for _ in range(first + 1):
            replay.add(Keys(2 * BLOCK_SIZE, hashes((first, first))))
    assert [branch.num_requests for branch in replay.branches(2)] == [5, 4]
    assert [branch.num_requests for branch in replay.branches(99)] == [5, 4, 3, 2]

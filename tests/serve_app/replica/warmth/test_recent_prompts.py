"""What a replica keeps of the prompts that it served."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from router import hash_blocks, root_hash
from serve_app.replica.warmth.recent_prompts import RecentPrompts

BLOCK_SIZE = 4
ROOT = root_hash(model="m", adapter="", tenant="", cache_salt="")


def tokens(*blocks: int, rest: int = 1) -> list[int]:
    """Full blocks, each of one token repeated, and some tokens of the next."""
    return [block for block in blocks for _ in range(BLOCK_SIZE)] + [99] * rest


def keys(*blocks: int) -> tuple[int, ...]:
    """Block hashes as routers know them."""
    return hash_blocks(tokens(*blocks), block_size=BLOCK_SIZE, root=ROOT)


def recent(*, max_blocks: int = 100) -> RecentPrompts:
    """Empty."""
    return RecentPrompts(model="m", block_size=BLOCK_SIZE, max_tokens=max_blocks * BLOCK_SIZE, clock=lambda: 0.0)


def kept(prompts: RecentPrompts) -> list[list[int]]:
    """The newest first, by their blocks."""
    return [list(each.token_ids[::BLOCK_SIZE]) for each in prompts.newest_first()]


def test_the_last_turn_takes_the_place_of_the_ones_before() -> None:
    """However many turns there are; another conversation with the same prefix is another one."""
    prompts = recent()
    for blocks in ((1, 2), (1, 2, 3), (1, 7), (1, 2, 3, 4, 5)):
        added = prompts.add(tokens(*blocks))
        assert added is not None
        assert added.block_hashes == keys(*blocks)
    assert kept(prompts) == [[1, 2, 3, 4, 5], [1, 7]]
    assert prompts.num_tokens == 7 * BLOCK_SIZE


def test_a_received_prompt_makes_nothing_older() -> None:
    """What it begins with, or is, was served here after it."""
    prompts = recent()
    prompts.add(tokens(1, 2), used_s=9.0)
    prompts.add(tokens(7), used_s=8.0)
    for blocks in ((1, 2), (1, 2, 3)):
        prompts.add(tokens(*blocks), used_s=5.0)
        assert [each.used_s for each in prompts.newest_first()] == [9.0, 8.0]
    assert kept(prompts) == [[1, 2, 3], [7]]


def test_what_fills_no_block_is_not_kept() -> None:
    """It is never cached either."""
    prompts = recent()
    assert prompts.add([1, 2, 3]) is None
    assert kept(prompts) == []


def test_the_oldest_make_room() -> None:
    """A prompt that alone is too large leaves nothing."""
    prompts = recent(max_blocks=5)
    for blocks in ((1, 2), (3, 4), (5, 6)):
        prompts.add(tokens(*blocks))
    assert kept(prompts) == [[5, 6], [3, 4]]
    prompts.add(tokens(*range(10, 16)))
    assert (kept(prompts), prompts.num_tokens) == ([], 0)


def test_prefixes_are_found_by_their_last_block() -> None:
    """Cut there; those that are not here are left out."""
    prompts = recent()
    prompts.add(tokens(1, 2, 3))
    prompts.add(tokens(1, 8))
    found = prompts.find([keys(1, 2)[-1], keys(1)[-1], keys(4)[-1]])
    assert {key: list(each.token_ids) for key, each in found.items()} == {
        keys(1, 2)[-1]: tokens(1, 2, rest=0),
        keys(1)[-1]: tokens(1, rest=0),
    }
    assert found[keys(1, 2)[-1]].block_hashes == keys(1, 2)


def test_an_emptied_cache_has_nothing_to_give() -> None:
    """For it was emptied for a reason."""
    prompts = recent()
    prompts.add(tokens(1))
    prompts.clear()
    assert (kept(prompts), prompts.num_tokens) == ([], 0)


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=30))
def test_it_is_bounded_and_keeps_what_was_last(sequences: list[list[int]]) -> None:
    """Whatever is added; the last one that fits is the first."""
    prompts = recent(max_blocks=12)
    for blocks in sequences:
        prompts.add(array("I", tokens(*blocks)))
        if blocks:
            assert kept(prompts)[0] == blocks
        assert prompts.num_tokens == sum(len(each.token_ids) for each in prompts.newest_first()) <= 12 * BLOCK_SIZE

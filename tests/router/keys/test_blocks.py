"""Tokens to block hashes."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import cacheable_tokens, hash_blocks, hash_tokens, root_hash

tokens = st.lists(st.integers(0, 2**32 - 1), max_size=64)
ROOT = root_hash(model="m", adapter="", tenant="", cache_salt="")


@given(tokens, tokens, st.integers(1, 9))
def test_equal_prefixes_have_equal_hashes(head: list[int], tail: list[int], block_size: int) -> None:
    """Appending tokens never changes the hashes of the blocks before them."""
    short = hash_blocks(head, block_size=block_size, root=ROOT)
    long = hash_blocks(head + tail, block_size=block_size, root=ROOT)
    assert long[: len(short)] == short
    assert len(long) == len(head + tail) // block_size


@given(tokens.filter(bool), st.data())
def test_a_changed_token_changes_its_block_and_all_later_ones(token_ids: list[int], data: st.DataObject) -> None:
    """The chain carries a difference to the end, and not to the front."""
    position = data.draw(st.integers(0, len(token_ids) - 1))
    changed = list(token_ids)
    changed[position] ^= 1
    before = hash_blocks(token_ids, block_size=2, root=ROOT)
    after = hash_blocks(changed, block_size=2, root=ROOT)
    first_changed = position // 2
    assert before[:first_changed] == after[:first_changed]
    assert all(old != new for old, new in zip(before[first_changed:], after[first_changed:], strict=True))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"model": "ab", "adapter": "c"}, {"model": "a", "adapter": "bc"}),
        ({"tenant": "x"}, {"cache_salt": "x"}),
        ({"cache_salt": ""}, {"cache_salt": "\0"}),
    ],
)
def test_roots_keep_fields_apart(left: dict[str, str], right: dict[str, str]) -> None:
    """Moving a character from one field to the next is another root, so nothing is shared across tenants."""
    empty = {"model": "", "adapter": "", "tenant": "", "cache_salt": ""}
    assert root_hash(**{**empty, **left}) != root_hash(**{**empty, **right})


def test_hashes_are_stable_across_processes() -> None:
    """Routers compare hashes with each other, so a seed of the process must not enter them."""
    assert hash_blocks([1, 2, 3, 4], block_size=2, root=ROOT) == (0x1282B3B23BE26314, 0x11EC3B3CDABBFAB1)


def test_a_token_id_out_of_range_is_refused() -> None:
    """A negative id cannot come from a tokenizer."""
    with pytest.raises(OverflowError):
        hash_blocks([-1], block_size=1, root=ROOT)


@pytest.mark.parametrize(
    ("num_prompt_tokens", "num_blocks", "expected"),
    [(8, 2, 4), (9, 2, 8), (9, 1, 4), (0, 0, 0), (4, 1, 0), (100, 3, 12)],
)
def test_the_last_token_is_always_computed(num_prompt_tokens: int, num_blocks: int, expected: int) -> None:
    """A prompt of 8 tokens can reuse one block of 4 although both are cached."""
    assert cacheable_tokens(num_prompt_tokens, num_blocks=num_blocks, block_size=4) == expected


@given(tokens, tokens)
def test_a_prompts_hash_is_that_of_its_ids(one: list[int], other: list[int]) -> None:
    """Whether they come as a list or an array; another for other ids."""
    assert hash_tokens(one) == hash_tokens(array("I", one))
    assert (hash_tokens(one) == hash_tokens(other)) == (one == other)

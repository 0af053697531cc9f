"""The same hashes as without a memory, whatever was hashed before."""

import tracemalloc
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import BlockHash, BlockHasher, hash_blocks
from router.keys.block_hasher import BLOCKS_A_STRETCH, MAX_STRETCHES

ROOTS = [BlockHash(7), BlockHash(2**64 - 1)]


@given(
    block_size=st.sampled_from([1, 3]),
    prompts=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3 * BLOCKS_A_STRETCH), st.integers(0, 2), st.sampled_from(ROOTS)),
        max_size=8,
    ),
    is_array=st.booleans(),
)
def test_it_gives_what_hash_blocks_gives(
    block_size: int, prompts: list[tuple[int, int, int, BlockHash]], is_array: bool
) -> None:
    """Each prompt goes on from an earlier one, with one token repeated, under this root or that."""
    hasher, seen = BlockHasher(block_size=block_size), [array("I")]
    for base, num_tokens, token_id, root in prompts:
        seen.append(seen[min(base, len(seen) - 1)] + array("I", [token_id] * num_tokens))
        token_ids = seen[-1] if is_array else list(seen[-1])
        assert hasher.hash(token_ids, root=root) == hash_blocks(token_ids, block_size=block_size, root=root)


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    """A stretch that is used stays."""
    hasher, shared = BlockHasher(block_size=1), [1] * BLOCKS_A_STRETCH
    for number in range(2, MAX_STRETCHES + 10):
        hasher.hash(shared, root=ROOTS[0])
        hasher.hash([number] * BLOCKS_A_STRETCH, root=ROOTS[0])
    kept = set(map(tuple, hasher._key_to_hashes.values()))
    assert len(kept) == MAX_STRETCHES
    assert hash_blocks(shared, block_size=1, root=ROOTS[0]) in kept
    assert hash_blocks([2] * BLOCKS_A_STRETCH, block_size=1, root=ROOTS[0]) not in kept


def test_a_token_id_out_of_range_is_refused() -> None:
    """As without a memory."""
    with pytest.raises(OverflowError):
        BlockHasher(block_size=1).hash([-1], root=ROOTS[0])


def test_a_stretch_takes_as_much_memory_as_is_said() -> None:
    """The size is Python's own count."""
    hasher = BlockHasher(block_size=1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            hasher.hash([number] * BLOCKS_A_STRETCH, root=ROOTS[1])
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert hasher.num_stretches == 1000
    assert grown < 800 * hasher.num_stretches

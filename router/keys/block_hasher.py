"""Block hashes of prompts that share a prefix with earlier ones, at a fraction of the time.

A hash over a stretch of many blocks, chained like theirs, finds the hashes of all of them at once.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence

import xxhash

from router.keys.blocks import hash_blocks
from router.types import BlockHash

BLOCKS_A_STRETCH = 64
MAX_STRETCHES = 8192
"""Some 0.8 kB each: 6 MiB, for half a million blocks."""


class BlockHasher:
    """An LRU of stretches; the result is that of `hash_blocks`."""

    def __init__(self, *, block_size: int) -> None:
        self._block_size = block_size
        self._key_to_hashes: OrderedDict[bytes, array[int]] = OrderedDict()

    @property
    def num_stretches(self) -> int:
        """Number of known stretches."""
        return len(self._key_to_hashes)

    def hash(self, token_ids: Sequence[int], *, root: BlockHash) -> tuple[BlockHash, ...]:
        """Hashes of the full blocks of `token_ids`, first to last.

        Raises:
            OverflowError: a token id is negative or does not fit in 32 bits.

        """
        tokens = token_ids if isinstance(token_ids, array) and token_ids.typecode == "I" else array("I", token_ids)
        stretch_tokens = BLOCKS_A_STRETCH * self._block_size
        hashes: list[int] = []
        parent, key = root, root.to_bytes(8, "little")
        for start in range(0, len(tokens) - len(tokens) % stretch_tokens, stretch_tokens):
            stretch = tokens[start : start + stretch_tokens]
            key = xxhash.xxh3_128_digest(stretch.tobytes() + key)
            hashes += self._stretch(key, stretch, parent)
            parent = BlockHash(hashes[-1])
        rest = tokens[len(hashes) * self._block_size :]
        rest_hashes = hash_blocks(rest, block_size=self._block_size, root=parent)
        return (*hashes, *rest_hashes)  # type: ignore[arg-type]  # BlockHash is an int at run time

    def _stretch(self, key: bytes, tokens: "array[int]", parent: BlockHash) -> "array[int]":
        hashes = self._key_to_hashes.get(key)
        if hashes is None:
            hashes = self._key_to_hashes[key] = array(
                "Q", hash_blocks(tokens, block_size=self._block_size, root=parent)
            )
            if len(self._key_to_hashes) > MAX_STRETCHES:
                self._key_to_hashes.popitem(last=False)
        else:
            self._key_to_hashes.move_to_end(key)
        return hashes

"""The blocks that an engine holds: an LRU from which leaves go before stems.

Written apart from `router.holders`, though alike: it is the truth with which the routers' beliefs are compared.
"""

from collections import OrderedDict
from collections.abc import KeysView, Sequence

from router import BlockHash


class PrefixCache:
    """Holds at most `capacity_blocks` blocks."""

    def __init__(self, *, capacity_blocks: int) -> None:
        self._capacity_blocks = capacity_blocks
        self._blocks: OrderedDict[BlockHash, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def block_hashes(self) -> KeysView[BlockHash]:
        """All of them, least recently used first."""
        return self._blocks.keys()

    def num_held(self, block_hashes: Sequence[BlockHash]) -> int:
        """Length of the longest leading run that is held, in blocks."""
        for index, block_hash in enumerate(block_hashes):
            if block_hash not in self._blocks:
                return index
        return len(block_hashes)

    def use(self, block_hashes: Sequence[BlockHash]) -> None:
        """Hold these blocks of one prompt, from its first on, and make them the last that were used.

        The deepest comes first, so that a stem is always younger than its leaves.
        """
        for block_hash in reversed(block_hashes[: self._capacity_blocks]):
            self._blocks[block_hash] = None
            self._blocks.move_to_end(block_hash)
        while len(self._blocks) > self._capacity_blocks:
            self._blocks.popitem(last=False)

"""The KV cache of an engine, block by block, as vLLM's `BlockPool` and `KVCacheManager` keep it.

Written apart from `router.belief.holders`, though alike: the routers' estimates are compared with it.
A contract test compares it with vLLM's own.
"""

from collections import OrderedDict
from collections.abc import KeysView, Sequence

from router import BlockHash
from serve_app.messages.kv_updates import KvChange, KvRemoved, KvStored


class CacheBlock:
    """A block of memory whose tokens are known by their hash.

    The same tokens can be in several blocks: a request that computes them again fills a block of its own, as every
    request does with its prompt's last token.
    """

    __slots__ = ("block_hash", "num_users")

    def __init__(self, block_hash: BlockHash) -> None:
        self.block_hash = block_hash
        self.num_users = 1
        """Requests under way that need it."""


class PrefixCache:
    """Blocks that requests use, and, in what is left of the capacity, those that were used last.

    No request is refused: where more is in use than fits, nothing else is cached. Evicted is what was released first,
    of one request the deepest first; thus leaves go before stems.

    Args:
        capacity_blocks: of memory.
        events: a list for what is stored and evicted; None where no one wants to know.

    """

    def __init__(self, *, capacity_blocks: int, events: list[KvChange] | None = None) -> None:
        self.capacity_blocks = capacity_blocks
        self._hash_to_blocks: dict[BlockHash, list[CacheBlock]] = {}  # oldest first
        self._evictable: OrderedDict[CacheBlock, None] = OrderedDict()  # next first
        self._num_blocks = 0
        self._num_partial_blocks = 0
        self._events = events

    def __len__(self) -> int:
        return len(self._hash_to_blocks)

    def block_hashes(self) -> KeysView[BlockHash]:
        """The hashes of all blocks that can be reused, in use or not."""
        return self._hash_to_blocks.keys()

    @property
    def num_blocks_in_use(self) -> int:
        """Full ones that requests under way need."""
        return self._num_blocks - len(self._evictable)

    def num_cached(self, block_hashes: Sequence[BlockHash]) -> int:
        """Length of the longest prefix that is cached, in blocks."""
        for index, block_hash in enumerate(block_hashes):
            if block_hash not in self._hash_to_blocks:
                return index
        return len(block_hashes)

    def num_shared(self, block_hashes: Sequence[BlockHash]) -> int:
        """Blocks of that prefix that are in use already, so that using them takes no room."""
        cached = block_hashes[: self.num_cached(block_hashes)]
        return sum(self._hash_to_blocks[block_hash][0].num_users > 0 for block_hash in cached)

    def reuse(self, block_hashes: Sequence[BlockHash]) -> list[CacheBlock]:
        """Use blocks that are cached."""
        blocks = [self._hash_to_blocks[block_hash][0] for block_hash in block_hashes]
        for block in blocks:
            if not block.num_users:
                del self._evictable[block]
            block.num_users += 1
        return blocks

    def store(self, block_hashes: Sequence[BlockHash], *, parent: CacheBlock | None = None) -> list[CacheBlock]:
        """Use new blocks for what was computed on top of `parent`; evicts what no longer fits."""
        blocks = [CacheBlock(block_hash) for block_hash in block_hashes]
        for block in blocks:
            self._hash_to_blocks.setdefault(block.block_hash, []).append(block)
        self._num_blocks += len(blocks)
        self._evict()
        if self._events is not None and blocks:
            self._events.append(KvStored(None if parent is None else parent.block_hash, tuple(block_hashes)))
        return blocks

    def set_partial_blocks(self, num_blocks: int) -> None:
        """Set the number of blocks in use that are not full, and cannot be reused; evicts what no longer fits."""
        self._num_partial_blocks = num_blocks
        self._evict()

    def release(self, blocks: Sequence[CacheBlock]) -> None:
        """A request that used these blocks, from its first on, does not need them any more."""
        for block in reversed(blocks):
            block.num_users -= 1
            if not block.num_users:
                self._evictable[block] = None
        self._evict()

    def use(self, block_hashes: Sequence[BlockHash]) -> None:
        """What becomes of a prompt's blocks when it is served while nothing else is."""
        num_cached = self.num_cached(block_hashes)
        blocks = self.reuse(block_hashes[:num_cached])
        blocks += self.store(block_hashes[num_cached:])
        self.release(blocks)

    def _evict(self) -> None:
        evicted = []
        while self._evictable and self._num_blocks + self._num_partial_blocks > self.capacity_blocks:
            block, _ = self._evictable.popitem(last=False)
            same = self._hash_to_blocks[block.block_hash]
            same.remove(block)
            if not same:
                del self._hash_to_blocks[block.block_hash]
            self._num_blocks -= 1
            evicted.append(block.block_hash)
        if self._events is not None and evicted:
            self._events.append(KvRemoved(tuple(evicted)))

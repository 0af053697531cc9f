"""Who is believed to hold which prefix: one capped LRU of block hashes a replica.

Invariant, for every replica: if a block is held, so is its parent. Blocks are touched deepest first,
so a parent is never older than its child, and eviction takes leaves before stems, as vLLM's free-block
queue does (`KVCacheManager.free` returns a request's blocks in reverse order). Hence the longest held
prefix can be found by binary search.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from router.state import HeldBlock
from router.types import BlockHash, ReplicaId

SHARED_FROM_NUM_ENDS = 4
"""So many prompts ending in one block are several requests with a common beginning and short questions; a
conversation's own turns are seldom that short."""


class Holders:
    """Beliefs, not facts: filled by decisions, corrected by receipts, bounded by each replica's KV capacity."""

    def __init__(self) -> None:
        self._replica_to_blocks: dict[ReplicaId, _HeldBlocks] = {}

    def add_replica(self, replica_id: ReplicaId, *, capacity_blocks: int) -> None:
        """Start believing in a replica, or resize it; a smaller capacity evicts the oldest."""
        held = self._replica_to_blocks.setdefault(replica_id, _HeldBlocks())
        held.resize(capacity_blocks)

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Forget everything about a replica."""
        del self._replica_to_blocks[replica_id]

    def clear(self) -> None:
        """Forget every prefix, keep the replicas: their caches were reset."""
        for held in self._replica_to_blocks.values():
            held.clear()

    def matched_blocks(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> int:
        """Length of the longest leading run of `block_hashes` held there, in blocks. Does not touch them."""
        return self._replica_to_blocks[replica_id].matched(block_hashes)

    def shared_blocks(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> int:
        """How many of the held leading blocks begin other prompts as well, which then go on differently or end."""
        return self._replica_to_blocks[replica_id].shared(block_hashes)

    def insert(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """Believe that the replica holds these blocks and used them last; evicts what no longer fits."""
        self._replica_to_blocks[replica_id].insert(block_hashes)

    def count_prompt(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """Note that one more prompt ends with these blocks."""
        self._replica_to_blocks[replica_id].count_end(block_hashes)

    def discard_after(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], *, num_kept: int) -> None:
        """Stop believing in this prefix beyond `num_kept` blocks, except where other prefixes build on it."""
        self._replica_to_blocks[replica_id].discard_leaves(block_hashes[num_kept:])

    def evict_oldest(self, replica_id: ReplicaId, num_blocks: int) -> None:
        """Stop believing in the blocks that were used longest ago."""
        self._replica_to_blocks[replica_id].evict(num_blocks)

    def export(self, replica_id: ReplicaId) -> tuple[HeldBlock, ...]:
        """What the replica is believed to hold, least recently used first, for a router that joins."""
        return self._replica_to_blocks[replica_id].export()

    def adopt(self, replica_id: ReplicaId, blocks: Iterable[HeldBlock]) -> None:
        """Believe what a peer believes. What is held here already counts as used later than all of that."""
        self._replica_to_blocks[replica_id].adopt(blocks)

    def num_blocks(self, replica_id: ReplicaId) -> int:
        """Blocks believed to be held there."""
        return len(self._replica_to_blocks[replica_id].block_to_parent)

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        for held in self._replica_to_blocks.values():
            held.check_integrity()


class _HeldBlocks:
    """One replica's blocks, oldest first."""

    def __init__(self) -> None:
        self.block_to_parent: OrderedDict[BlockHash, BlockHash | None] = OrderedDict()
        self._num_children: dict[BlockHash, int] = {}
        self._num_ends: dict[BlockHash, int] = {}  # prompts whose last full block this is
        self._capacity_blocks = 0

    def resize(self, capacity_blocks: int) -> None:
        self._capacity_blocks = capacity_blocks
        self.evict(len(self.block_to_parent) - self._capacity_blocks)

    def clear(self) -> None:
        self.block_to_parent.clear()
        self._num_children.clear()
        self._num_ends.clear()

    def matched(self, block_hashes: Sequence[BlockHash]) -> int:
        low, high = 0, len(block_hashes)
        while low < high:
            middle = (low + high) // 2
            if block_hashes[middle] in self.block_to_parent:
                low = middle + 1
            else:
                high = middle
        return low

    def shared(self, block_hashes: Sequence[BlockHash]) -> int:
        num_matched = self.matched(block_hashes)
        for depth in range(num_matched, 0, -1):
            block_hash = block_hashes[depth - 1]
            # Our own next block, where it is held, is one of the children.
            num_others = self._num_children[block_hash] - (depth < num_matched)
            if num_others or self._num_ends[block_hash] >= SHARED_FROM_NUM_ENDS:
                return depth
        return 0

    def insert(self, block_hashes: Sequence[BlockHash]) -> None:
        fitting = block_hashes[: self._capacity_blocks]
        for index in range(self.matched(fitting), len(fitting)):
            self._add(fitting[index], fitting[index - 1] if index else None)
        for block_hash in reversed(fitting):
            self.block_to_parent.move_to_end(block_hash)
        self.evict(len(self.block_to_parent) - self._capacity_blocks)

    def count_end(self, block_hashes: Sequence[BlockHash]) -> None:
        if block_hashes and block_hashes[-1] in self._num_ends:
            self._num_ends[block_hashes[-1]] += 1

    def discard_leaves(self, block_hashes: Sequence[BlockHash]) -> None:
        for block_hash in reversed(block_hashes):
            if block_hash not in self.block_to_parent:
                continue
            if self._num_children[block_hash]:
                return
            self._remove(block_hash)

    def evict(self, num_blocks: int) -> None:
        for _ in range(min(num_blocks, len(self.block_to_parent))):
            self._remove(next(iter(self.block_to_parent)))

    def export(self) -> tuple[HeldBlock, ...]:
        return tuple(
            HeldBlock(block_hash, parent, self._num_ends[block_hash])
            for block_hash, parent in self.block_to_parent.items()
        )

    def adopt(self, blocks: Iterable[HeldBlock]) -> None:
        own = tuple(self.block_to_parent)
        # Backwards, because a parent must be there before its child, and is never older.
        unknown = [block for block in blocks if block.block_hash not in self.block_to_parent]
        for block in reversed(unknown):
            if block.parent is None or block.parent in self.block_to_parent:
                self._add(block.block_hash, block.parent)
                self._num_ends[block.block_hash] = block.num_ends
        for block in unknown:
            if block.block_hash in self.block_to_parent:
                self.block_to_parent.move_to_end(block.block_hash)
        for block_hash in own:
            self.block_to_parent.move_to_end(block_hash)
        self.evict(len(self.block_to_parent) - self._capacity_blocks)

    def _add(self, block_hash: BlockHash, parent: BlockHash | None) -> None:
        self.block_to_parent[block_hash] = parent
        self._num_children[block_hash] = 0
        self._num_ends[block_hash] = 0
        if parent is not None:
            self._num_children[parent] += 1

    def _remove(self, block_hash: BlockHash) -> None:
        parent = self.block_to_parent.pop(block_hash)
        del self._num_children[block_hash], self._num_ends[block_hash]
        if parent is not None:
            self._num_children[parent] -= 1

    def check_integrity(self) -> None:
        num_held = len(self.block_to_parent)
        assert num_held <= self._capacity_blocks, f"{num_held} blocks held, capacity {self._capacity_blocks}"
        assert self.block_to_parent.keys() == self._num_children.keys() == self._num_ends.keys()
        age = {block_hash: position for position, block_hash in enumerate(self.block_to_parent)}
        for block_hash, parent in self.block_to_parent.items():
            if parent is not None:
                assert parent in age, f"block {block_hash:#x} is held, its parent {parent:#x} is not"
                assert age[parent] > age[block_hash], f"parent {parent:#x} is older than its child {block_hash:#x}"
        num_links = sum(parent is not None for parent in self.block_to_parent.values())
        assert num_links == sum(self._num_children.values())

"""What eight engines of 500,000 KV tokens store, all of them full, and a router that knows it exactly by KV events.

Conversations have 12,500 tokens, begin with one of 64 tenants' prompts, and are evicted oldest and deepest first.
"""

from collections import deque
from collections.abc import Iterator
from random import Random

from benchmarks.cost.loaded_router import LoadedRouter, Size
from router import BlockHash, ReplicaId, Router

STEP_BLOCKS = 512
"""Blocks of vLLM's default step, 8,192 tokens."""
CONVERSATION_BLOCKS = 781
"""Blocks of 12,500 tokens."""
TENANT_BLOCKS = 128
NUM_TENANTS = 64

Chain = tuple[BlockHash | None, tuple[BlockHash, ...]]


class FullEngines:
    """The blocks that each engine stores, oldest first; every engine stays full."""

    def __init__(self, *, rng: Random) -> None:
        self._rng = rng
        self.size = size = Size(num_replicas=8, block_size=16)
        self.router: Router = LoadedRouter(size, prompt_blocks=1000, rng=rng).router
        self.replica_ids = [each.replica_id for each in self.router.cluster.replicas]
        self._tenants = [self._fresh(TENANT_BLOCKS) for _ in range(NUM_TENANTS)]
        self._stored = {replica_id: deque[BlockHash]() for replica_id in self.replica_ids}
        for replica_id in self.replica_ids:
            self.router.on_blocks_cleared(replica_id)
            for tenant in self._tenants:
                self.router.on_blocks_stored(replica_id, None, tenant)
            while len(self._stored[replica_id]) < size.capacity_blocks - len(self._tenants) * TENANT_BLOCKS:
                self.store(replica_id, self.conversation(CONVERSATION_BLOCKS))

    def conversation(self, num_blocks: int) -> Chain:
        """The blocks of a new conversation, after those of a tenant's prompt."""
        return self._rng.choice(self._tenants)[-1], self._fresh(num_blocks)

    def answer(self, replica_id: ReplicaId) -> Iterator[Chain]:
        """The blocks of an answer that grows without end, one at a time, after a new conversation."""
        conversation = self.conversation(CONVERSATION_BLOCKS)
        self.store(replica_id, conversation)
        last = conversation[1][-1]
        while True:
            blocks = self._fresh(1)
            yield last, blocks
            last = blocks[0]

    def store(self, replica_id: ReplicaId, chain: Chain) -> None:
        """Store blocks, which will be evicted deepest first."""
        self._stored[replica_id].extend(reversed(chain[1]))
        self.router.on_blocks_stored(replica_id, *chain)

    def oldest(self, replica_id: ReplicaId, num_blocks: int) -> list[BlockHash]:
        """The blocks that the engine will evict next."""
        return [self._stored[replica_id].popleft() for _ in range(num_blocks)]

    def _fresh(self, num_blocks: int) -> tuple[BlockHash, ...]:
        return tuple(BlockHash(self._rng.getrandbits(64)) for _ in range(num_blocks))

"""What it costs to follow engines' KV events: 8 exact replicas of 500k KV tokens, in blocks of 16, all full.

At 10,000 prefilled tokens a second a replica stores 625 blocks a second and evicts as many. Times are one message's;
the conversations have 12,500 tokens, begin with one of 64 tenants' prompts, and are evicted oldest and deepest first.
"""

from collections import deque
from collections.abc import Iterator
from random import Random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cost.loaded_router import LoadedRouter, Size
from router import BlockHash, ReplicaId, Router

ROUNDS = 300
WARMUP_ROUNDS = 20
STEP_BLOCKS = 512
"""Of vLLM's default step, 8,192 tokens."""
CONVERSATION_BLOCKS = 781
"""12,500 tokens."""
TENANT_BLOCKS = 128

Chain = tuple[BlockHash | None, tuple[BlockHash, ...]]


class Engines:
    """What is stored where, oldest first; keeps every replica full."""

    def __init__(self, *, rng: Random) -> None:
        self._rng = rng
        size = Size(num_replicas=8, block_size=16)
        self.router: Router = LoadedRouter(size, prompt_blocks=1000, rng=rng).router
        self.replica_ids = [each.replica_id for each in self.router.cluster.replicas]
        self._tenants = [self._fresh(TENANT_BLOCKS) for _ in range(64)]
        self._stored = {replica_id: deque[BlockHash]() for replica_id in self.replica_ids}
        for replica_id in self.replica_ids:
            self.router.on_blocks_cleared(replica_id)
            for tenant in self._tenants:
                self.router.on_blocks_stored(replica_id, None, tenant)
            while len(self._stored[replica_id]) < size.capacity_blocks - len(self._tenants) * TENANT_BLOCKS:
                self.store(replica_id, self.conversation(CONVERSATION_BLOCKS))

    def conversation(self, num_blocks: int) -> Chain:
        """A new one of a tenant."""
        return self._rng.choice(self._tenants)[-1], self._fresh(num_blocks)

    def store(self, replica_id: ReplicaId, chain: Chain) -> None:
        """It will be evicted deepest first."""
        self._stored[replica_id].extend(reversed(chain[1]))
        self.router.on_blocks_stored(replica_id, *chain)

    def oldest(self, replica_id: ReplicaId, num_blocks: int) -> list[BlockHash]:
        """What the engine will evict next."""
        return [self._stored[replica_id].popleft() for _ in range(num_blocks)]

    def _fresh(self, num_blocks: int) -> tuple[BlockHash, ...]:
        return tuple(BlockHash(self._rng.getrandbits(64)) for _ in range(num_blocks))


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    """Filled once; each round stores as much as it removes."""
    engines = Engines(rng=Random(1))
    yield engines
    assert all(engines.router.cluster.holders.is_exact(each) for each in engines.replica_ids)


@pytest.mark.benchmark(group="KV events: a step of 512 blocks")
def test_step_stored(benchmark: BenchmarkFixture, engines: Engines) -> None:
    """`Router.on_blocks_stored`: a chunk of a prompt."""

    def prepare() -> tuple[tuple[ReplicaId, Chain], dict[str, object]]:
        replica_id = engines.replica_ids[0]
        engines.router.on_blocks_removed(replica_id, engines.oldest(replica_id, STEP_BLOCKS))
        return (replica_id, engines.conversation(STEP_BLOCKS)), {}

    benchmark.pedantic(engines.store, setup=prepare, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)


@pytest.mark.benchmark(group="KV events: a step of 512 blocks")
def test_step_removed(benchmark: BenchmarkFixture, engines: Engines) -> None:
    """`Router.on_blocks_removed`: the end of one old conversation, or of two."""

    def prepare() -> tuple[tuple[ReplicaId, list[BlockHash]], dict[str, object]]:
        replica_id = engines.replica_ids[0]
        engines.store(replica_id, engines.conversation(STEP_BLOCKS))
        return (replica_id, engines.oldest(replica_id, STEP_BLOCKS)), {}

    benchmark.pedantic(engines.router.on_blocks_removed, setup=prepare, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)


@pytest.mark.benchmark(group="KV events: one block")
def test_block_of_an_answer_stored(benchmark: BenchmarkFixture, engines: Engines) -> None:
    """`Router.on_blocks_stored`: an answer grows, and the oldest block makes room for it."""
    replica_id = engines.replica_ids[0]
    chain = engines.conversation(CONVERSATION_BLOCKS)
    engines.store(replica_id, chain)
    last = chain[1][-1]

    def prepare() -> tuple[tuple[ReplicaId, Chain], dict[str, object]]:
        nonlocal last
        engines.router.on_blocks_removed(replica_id, engines.oldest(replica_id, 1))
        parent, (last,) = last, engines.conversation(1)[1]
        return (replica_id, (parent, (last,))), {}

    benchmark.pedantic(engines.store, setup=prepare, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)


@pytest.mark.benchmark(group="KV events: one block")
def test_block_removed(benchmark: BenchmarkFixture, engines: Engines) -> None:
    """`Router.on_blocks_removed`, where messages are not gathered: one block at a time."""

    def prepare() -> tuple[tuple[ReplicaId, list[BlockHash]], dict[str, object]]:
        replica_id = engines.replica_ids[0]
        engines.store(replica_id, engines.conversation(1))
        return (replica_id, engines.oldest(replica_id, 1)), {}

    benchmark.pedantic(engines.router.on_blocks_removed, setup=prepare, rounds=ROUNDS, warmup_rounds=WARMUP_ROUNDS)

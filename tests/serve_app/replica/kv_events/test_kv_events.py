"""KV events from the engine to a router's beliefs, whatever is lost on the way."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import zmq
import zmq.asyncio
from hypothesis import given
from hypothesis import strategies as st

from router import BlockHash, hash_blocks, root_hash
from serve_app.ingress.inbox import Inbox
from serve_app.ingress.snapshot import knowledge
from serve_app.messages import batches
from serve_app.messages.kv_updates import KvCleared, KvRemoved, KvStored, KvUpdate
from serve_app.messages.receipts import BatchAnswer, Finished, Prefilled, Receipt
from serve_app.replica.kv_events.engine_blocks import EngineBlocks, UnsupportedCacheError
from serve_app.replica.kv_events.feed import KvFeed
from serve_app.replica.kv_events.merge import encode_with_receipts
from serve_app.replica.kv_events.subscription import KvSubscription
from serve_app.replica.kv_events.wire import AllBlocksCleared, BlockRemoved, BlockStored, EngineBatch, EngineEvent
from tests.builders import BLOCK_SIZE, make_replica, make_request, make_router

MODEL = "m"
ONE = make_replica(0).replica_id
TIMEOUT_S = 20.0


def tokens(*blocks: int) -> list[int]:
    """Full blocks, each of one number."""
    return [block for block in blocks for _ in range(BLOCK_SIZE)]


def keys(*blocks: int, adapter: str = "", cache_salt: str = "") -> tuple[BlockHash, ...]:
    """Block hashes as a router makes them."""
    root = root_hash(model=MODEL, adapter=adapter, tenant="", cache_salt=cache_salt)
    return hash_blocks(tokens(*blocks), block_size=BLOCK_SIZE, root=root)


def names(*blocks: int, space: str = "") -> list[bytes]:
    """Block hashes as an engine has them: in a chain, each stands for all before it."""
    return [f"{space}{blocks[: end + 1]}".encode() for end in range(len(blocks))]


def stored(*blocks: int, num_new: int | None = None, space: str = "", **fields: Any) -> BlockStored:
    """The last `num_new` blocks of a prompt, or all of them."""
    all_names = names(*blocks, space=space)
    start = 0 if num_new is None else len(blocks) - num_new
    parent = all_names[start - 1] if start else None
    given: dict[str, Any] = {"block_size": BLOCK_SIZE, "medium": "GPU", "group_idx": 0} | fields
    return BlockStored(all_names[start:], parent, tokens(*blocks[start:]), **given)


def removed(*blocks: int, num_gone: int = 1, **fields: Any) -> BlockRemoved:
    """The last `num_gone` blocks of a prompt, the deepest first."""
    return BlockRemoved(names(*blocks)[: -num_gone - 1 : -1], **fields)


@pytest.fixture
def account() -> EngineBlocks:
    """The blocks of an empty cache."""
    return EngineBlocks(model=MODEL, block_size=BLOCK_SIZE)


def test_chains_get_the_routers_hashes(account: EngineBlocks) -> None:
    """From the start of a prompt, or on top of what is known."""
    assert account.apply(stored(1, 2)) == KvStored(None, keys(1, 2))
    assert account.apply(stored(1, 2, 3, 4, num_new=2)) == KvStored(keys(1, 2)[-1], keys(1, 2, 3, 4)[2:])
    assert account.apply(removed(1, 2, 3, 4)) == KvRemoved(keys(1, 2, 3, 4)[3:])
    assert account.apply(AllBlocksCleared()) == KvCleared()
    assert len(account) == 0


def test_adapters_and_salts_have_caches_of_their_own(account: EngineBlocks) -> None:
    """vLLM tells the adapter of every block, the salt of the first."""
    salted = stored(1, 2, space="s", extra_keys=[["secret"], None])
    adapted = stored(1, 2, space="a", lora_name="sql", extra_keys=[["sql"], ["sql"]])
    both = stored(1, 2, space="b", lora_name="sql", extra_keys=[["sql", "secret"], ["sql"]])
    assert account.apply(salted) == KvStored(None, keys(1, 2, cache_salt="secret"))
    assert account.apply(adapted) == KvStored(None, keys(1, 2, adapter="sql"))
    assert account.apply(both) == KvStored(None, keys(1, 2, adapter="sql", cache_salt="secret"))


def test_what_has_no_key_is_left_out_with_all_that_builds_on_it(account: EngineBlocks) -> None:
    """Embeddings in the third block."""
    embeddings = [None, None, [b"hash of embeddings"], None]
    assert account.apply(stored(1, 2, 3, 4, extra_keys=embeddings)) == KvStored(None, keys(1, 2))
    assert account.apply(stored(1, 2, 3, 4, 5, num_new=1)) is None
    assert account.apply(stored(7, 8, extra_keys=[[b"hash of embeddings"], None])) is None
    assert account.apply(removed(1, 2, 3, 4, num_gone=3)) == KvRemoved(keys(1, 2)[1:])
    assert account.apply(removed(7, 8)) is None


def test_what_is_not_in_the_engines_own_memory_does_not_count(account: EngineBlocks) -> None:
    """Nor a part of a block. Several kinds of caches in one model are not understood."""
    assert account.apply(stored(1, medium="CPU")) is None
    assert account.apply(stored(1, block_size=BLOCK_SIZE // 2)) is None
    account.apply(stored(1))
    assert account.apply(removed(1, medium="CPU")) is None
    assert len(account) == 1
    with pytest.raises(UnsupportedCacheError, match="several kinds"):
        account.apply(stored(1, group_idx=1))


def test_a_prompt_with_an_image_ends_it(account: EngineBlocks) -> None:
    """Routers have keys for it, and would take it to be gone."""
    with pytest.raises(UnsupportedCacheError, match="has an image"):
        account.apply(stored(1, 2, extra_keys=[None, [["hash of an image", 1]]]))


def test_a_block_is_there_until_its_last_copy_is_removed(account: EngineBlocks) -> None:
    """Each removal is told, as the core counts copies as well."""
    account.apply(stored(1, 2))
    account.apply(stored(1, 2))
    assert account.apply(removed(1, 2)) == KvRemoved(keys(1, 2)[1:])
    assert len(account) == 2
    assert account.apply(removed(1, 2)) == KvRemoved(keys(1, 2)[1:])
    assert account.apply(removed(1, 2)) is None
    assert len(account) == 1


class Line:
    """A line from a feed to a router, over a delivery that may lose updates; snapshots are asked for as by replicas."""

    def __init__(self) -> None:
        self.router = make_router(num_replicas=1, kv_capacity_tokens=4000)
        self.inbox = Inbox(lambda *_: None, lambda *_: None)
        self.account = EngineBlocks(model=MODEL, block_size=BLOCK_SIZE)
        self.feed = KvFeed(self.account, self.posted_later)
        self.posted: list[KvUpdate] = []
        self.num_snapshots = 0

    def posted_later(self, update: KvUpdate) -> None:
        """The feed's `post`."""
        self.posted.append(update)
        self.num_snapshots += update.kind == "snapshot"

    def deliver(self, *, loses: bool = False) -> None:
        """What was posted, and what is posted in answer to that."""
        while self.posted:
            batch, self.posted = self.posted, []
            if loses:
                return
            payload = encode_with_receipts(ONE, 1, batch)
            if self.inbox.on_receipts(payload, self.router, now=0) is BatchAnswer.WANTS_SNAPSHOT:
                self.feed.send_snapshot()

    def held(self, *blocks: int) -> int:
        """How much of a prompt the router believes to be there."""
        return self.router.cluster.holders.matched_blocks(ONE, keys(*blocks))

    @property
    def is_exact(self) -> bool:
        """Whether the router goes by the events."""
        return knowledge(self.router, make_replica(0)) == "kv_events"


@pytest.fixture
def line() -> Line:
    """Nothing was said yet."""
    return Line()


def test_an_engine_that_says_nothing_is_not_known(line: Line) -> None:
    """It may hold anything; nor does it help that its cache is emptied. With its first word everything is known."""
    line.feed.beat()
    line.feed.clear()
    line.feed.send_snapshot()
    line.deliver()
    assert not line.is_exact
    line.feed.apply([stored(1, 2)])
    line.feed.beat()
    line.deliver()
    assert (line.is_exact, line.held(1, 2)) == (True, 2)


def test_a_router_that_was_there_from_the_start_needs_no_snapshot(line: Line) -> None:
    """By the first change."""
    assert not line.is_exact
    line.feed.apply([stored(1, 2)])
    line.deliver()
    assert line.is_exact
    line.feed.apply([stored(1, 2, 3, num_new=1), stored(5)])
    line.feed.beat()
    line.deliver()
    assert (line.held(1, 2, 3), line.held(5), line.num_snapshots) == (3, 1, 0)


def test_one_that_comes_later_gets_a_snapshot(line: Line) -> None:
    """At the next heartbeat."""
    line.feed.apply([stored(1, 2)])
    line.deliver(loses=True)
    line.feed.beat()
    line.deliver()
    assert (line.is_exact, line.held(1, 2), line.num_snapshots) == (True, 2, 1)


def test_a_missing_update_is_noticed_and_made_up_for(line: Line) -> None:
    """By the number of the next one, or the heartbeat's; until then it is as it was believed."""
    line.feed.beat()
    line.feed.apply([stored(1, 2, 3)])
    line.deliver()
    line.feed.apply([removed(1, 2, 3, num_gone=2)])
    line.deliver(loses=True)
    assert line.held(1, 2, 3) == 3
    line.feed.beat()
    line.deliver()
    assert (line.held(1, 2, 3), line.inbox.kv.num_lost, line.num_snapshots) == (1, 1, 1)


def test_lost_events_leave_it_to_receipts_until_the_cache_is_emptied(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    """What was known is where they start; a snapshot would be wrong. It is logged once."""

    async def batches() -> AsyncIterator[list[EngineEvent] | None]:
        yield [stored(1, 2)]
        yield None
        yield [stored(3)]
        yield None

    asyncio.run(line.feed.follow(batches()))
    line.feed.beat()
    line.deliver()
    assert (line.is_exact, line.held(1, 2), line.held(3), line.num_snapshots) == (False, 2, 0, 0)
    assert caplog.text.count("routers go by receipts: some are missing") == 1
    line.feed.apply([AllBlocksCleared(), stored(4)])
    line.deliver()
    assert (line.is_exact, line.held(1, 2), line.held(4)) == (True, 0, 1)


def test_a_fault_of_ours_leaves_it_to_receipts(line: Line) -> None:
    """And is not hidden."""

    async def batches() -> AsyncIterator[list[EngineEvent] | None]:
        yield [stored(1, 2)]
        raise RuntimeError("a bug")

    line.feed.beat()
    with pytest.raises(RuntimeError):
        asyncio.run(line.feed.follow(batches()))
    line.deliver()
    assert not line.is_exact


def test_a_cache_that_is_emptied_is_known_before_the_engine_says_so(line: Line) -> None:
    """It does with its next step, which changes nothing more."""
    line.feed.apply([stored(1, 2)])
    line.feed.clear()
    line.deliver()
    assert (line.is_exact, line.held(1, 2)) == (True, 0)
    line.feed.apply([AllBlocksCleared(), stored(3)])
    line.deliver()
    assert (line.held(1, 2), line.held(3)) == (0, 1)


def test_a_replica_that_the_router_does_not_have_means_nothing(line: Line) -> None:
    """Its snapshot is wanted when it has."""
    line.feed.apply([stored(1)])
    line.router.set_replicas([])
    line.deliver()
    line.router.set_replicas([make_replica(0, kv_capacity_tokens=4000)])
    line.feed.beat()
    line.deliver()
    assert (line.is_exact, line.held(1), line.num_snapshots) == (True, 1, 1)


class Cache:
    """An engine's, as far as its events go: chains of blocks, in any number of copies."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._prompts: list[tuple[int, ...]] = []

    def step(self) -> list[EngineEvent]:
        """One prompt is stored, evicted in part, or everything is cleared."""
        roll = self._rng.random()
        if roll < 0.04:
            self._prompts.clear()
            return [AllBlocksCleared()]
        if roll < 0.6 or not self._prompts:
            blocks = tuple(self._rng.randrange(3) for _ in range(self._rng.randrange(1, 6)))
            self._prompts.append(blocks)
            return [stored(*blocks)]
        blocks = self._prompts.pop(self._rng.randrange(len(self._prompts)))
        num_gone = self._rng.randrange(1, len(blocks) + 1)
        if num_gone < len(blocks):
            self._prompts.append(blocks[:-num_gone])
        return [removed(*blocks, num_gone=num_gone)]

    def held(self, blocks: Sequence[int]) -> int:
        """How much of a prompt can be reused."""
        prefixes = {each[:end] for each in self._prompts for end in range(1, len(each) + 1)}
        return next((end for end in range(len(blocks)) if tuple(blocks[: end + 1]) not in prefixes), len(blocks))


@given(st.integers(), st.floats(0, 0.5))
def test_after_a_heartbeat_the_router_knows_what_there_is(seed: int, loss: float) -> None:
    """Whatever was lost before it, and whoever lost it."""
    rng = Random(seed)
    cache, line = Cache(rng), Line()
    for _ in range(60):
        line.feed.apply(cache.step())
        if rng.random() < 0.3:
            line.feed.beat()
        if rng.random() < 0.5:
            line.deliver(loses=rng.random() < loss)
    line.feed.beat()
    line.deliver()
    assert line.is_exact
    for _ in range(20):
        blocks = [rng.randrange(3) for _ in range(6)]
        assert line.held(*blocks) == cache.held(blocks)
    line.router.check_integrity()


class Engine:
    """Publishes as vLLM's ZmqEventPublisher does, and sends again what it still has."""

    def __init__(self, folder: Path) -> None:
        self.endpoints = (f"ipc://{folder}/events", f"ipc://{folder}/replay")
        self._context = zmq.asyncio.Context()
        self._publisher = self._context.socket(zmq.PUB)
        self._publisher.bind(self.endpoints[0])
        self._replay = self._context.socket(zmq.ROUTER)
        self._replay.bind(self.endpoints[1])
        self.number_to_payload: dict[int, bytes] = {}
        self._number = 0
        self._serving = asyncio.create_task(self._serve_replays())

    async def publish(self, payload: bytes, *, is_seen: bool = True) -> None:
        """Publish one batch; an unseen one is missed by a subscriber that comes late, or is too slow."""
        self.number_to_payload[self._number] = payload
        if is_seen:
            await self._publisher.send_multipart([b"", self._number.to_bytes(8, "big"), payload])
        self._number += 1

    async def _serve_replays(self) -> None:
        while True:
            client_id, _, start = await self._replay.recv_multipart()
            for number, payload in self.number_to_payload.items():
                if number >= int.from_bytes(start, "big"):
                    await self._replay.send_multipart([client_id, b"", b"", number.to_bytes(8, "big"), payload])
            await self._replay.send_multipart([client_id, b"", b"", (-1).to_bytes(8, "big", signed=True), b""])

    async def close(self) -> None:
        """Free its sockets."""
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        self._context.destroy(linger=0)


def payload_of(*events: EngineEvent) -> bytes:
    """A batch as vLLM encodes it."""
    return msgspec.msgpack.encode(EngineBatch(0.0, list(events)))


async def read(engine: Engine, subscription: KvSubscription, num_batches: int) -> list[list[EngineEvent] | None]:
    """So many batches; a last one is published until it comes, as subscribing takes a moment."""
    batches = subscription.batches()
    found: list[list[EngineEvent] | None] = []

    async def collect() -> None:
        async for each in batches:
            found.append(each)
            if len(found) >= num_batches:
                break

    collecting = asyncio.create_task(collect())
    async with asyncio.timeout(TIMEOUT_S):
        while not collecting.done():
            await engine.publish(payload_of(AllBlocksCleared()))
            await asyncio.wait([collecting], timeout=0.05)
    await collecting
    await batches.aclose()  # type: ignore[attr-defined]  # it is a generator
    return found


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """An engine with sockets in a folder with a short name, as sockets want it."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder))
        yield engine
        await engine.close()


async def test_a_subscription_that_comes_late_gets_all(engine: Engine) -> None:
    """In their order, each once."""
    await engine.publish(payload_of(stored(1)))
    await engine.publish(payload_of(stored(2), stored(3)))
    subscription = KvSubscription(*engine.endpoints)
    assert (await read(engine, subscription, 3))[:2] == [[stored(1)], [stored(2), stored(3)]]
    assert subscription.num_replayed >= 2


async def test_what_the_engine_has_no_more_is_missing(engine: Engine) -> None:
    """So is what is no batch; everything else comes."""
    await engine.publish(payload_of(stored(1)))
    await engine.publish(payload_of(stored(2)))
    await engine.publish(b"no batch")
    del engine.number_to_payload[0]
    assert (await read(engine, KvSubscription(*engine.endpoints), 4))[:3] == [None, [stored(2)], None]


async def test_what_has_come_can_be_taken_at_once(engine: Engine) -> None:
    """Without waiting for the next look; each batch comes once, and after a hole nothing is taken."""
    subscription = KvSubscription(*engine.endpoints)
    assert subscription.take() == []
    batches = subscription.batches()
    reading = asyncio.ensure_future(anext(batches))  # type: ignore[arg-type]  # a coroutine
    async with asyncio.timeout(TIMEOUT_S):
        while not reading.done():  # subscribing takes a moment
            await engine.publish(payload_of(stored(1)))
            await asyncio.wait([reading], timeout=0.05)
        assert await reading == [stored(1)]
        await engine.publish(payload_of(stored(2)))
        taken: list[list[EngineEvent] | None] = []
        while [stored(2)] not in taken:
            await asyncio.sleep(0)
            taken += subscription.take()
        await engine.publish(payload_of(stored(3)), is_seen=False)
        await engine.publish(payload_of(stored(4)))
        assert await anext(batches) == [stored(3)]
        assert subscription.take() == [[stored(4)]]
    await batches.aclose()  # type: ignore[attr-defined]  # it is a generator


def test_a_finished_prompt_is_cached_by_what_was_told_with_it(line: Line) -> None:
    """What the engine stored of it comes in the same batch, and counts first."""
    line.feed.apply([stored(9)])
    line.deliver()
    request = make_request("a", 1, 2)
    line.router.on_reserved(line.router.choose(request, now=0).reservation, now=0)
    assert line.router.cluster.holders.matched_blocks(ONE, request.block_hashes) == 2
    update = KvUpdate(2, (KvStored(None, tuple(request.block_hashes)),), num_steps=1)
    receipts: list[Receipt] = [
        Prefilled(request.request_id, request.num_prompt_tokens, 0),
        Finished(request.request_id),
    ]
    line.inbox.on_receipts(batches.encode(ONE, 2, receipts, [update]), line.router, now=1)
    assert line.router.cluster.holders.matched_blocks(ONE, request.block_hashes) == 2

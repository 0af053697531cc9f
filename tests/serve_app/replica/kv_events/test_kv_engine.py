"""KV events of a real vLLM scheduler and cache, over ZMQ, against the core's own hashes.

`make test` runs it in a process of its own, because vLLM leaves some of itself behind in one.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from router import BlockHash, hash_blocks, root_hash
from serve_app.messages.kv_updates import KvCleared, KvRemoved, KvStored, KvUpdate
from serve_app.replica.kv_events.engine_blocks import EngineBlocks
from serve_app.replica.kv_events.feed import KvFeed
from serve_app.replica.kv_events.subscription import KvSubscription
from serve_app.replica.kv_events.wire import TOPIC
from tests.serve_app.simulated_engines import BLOCK_SIZE, NUM_BLOCKS, ask, running_engine

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, of an engine that is started in this process
]

PROMPT = list(range(500, 900))
TIMEOUT_S = 20.0


class Followed:
    """An engine, and what a feed makes of its events."""

    def __init__(self, engine: Any, endpoints: tuple[str, str]) -> None:
        self.engine = engine
        self.endpoints = endpoints
        self.updates: list[KvUpdate] = []
        self.came = asyncio.Event()
        self.subscription = KvSubscription(*endpoints)
        self.feed = KvFeed(EngineBlocks(model="demo", block_size=BLOCK_SIZE), self._take)

    def _take(self, update: KvUpdate) -> None:
        self.updates.append(update)
        self.came.set()

    def stored(self) -> dict[int, int]:
        """How many copies of each block there are, by the updates."""
        copies: dict[int, int] = {}
        for update in self.updates:
            for change in update.changes:
                match change:
                    case KvCleared():
                        copies.clear()
                    case KvStored():
                        for each in change.block_hashes:
                            copies[each] = copies.get(each, 0) + 1
                    case KvRemoved():
                        for each in change.block_hashes:
                            copies[each] -= 1
        return {each: number for each, number in copies.items() if number}

    async def wait_for(self, block_hashes: tuple[BlockHash, ...]) -> None:
        """Until all of these are stored."""
        async with asyncio.timeout(TIMEOUT_S):
            while not self.stored().keys() >= set(block_hashes):
                self.came.clear()
                await self.came.wait()

    async def ask(self, request_id: str, token_ids: list[int], **options: Any) -> Any:
        """The last output of a request."""
        return await ask(self.engine, request_id, token_ids, **options)


def keys(token_ids: list[int], *, cache_salt: str = "") -> tuple[BlockHash, ...]:
    """Block hashes as a router makes them."""
    root = root_hash(model="demo", adapter="", tenant="", cache_salt=cache_salt)
    return hash_blocks(token_ids, block_size=BLOCK_SIZE, root=root)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def followed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Followed]:
    """Followed from the start."""
    folder: Path = tmp_path_factory.mktemp("kv")
    endpoints = (f"ipc://{folder}/events", f"ipc://{folder}/replay")
    events = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": endpoints[0],
        "replay_endpoint": endpoints[1],
        "topic": TOPIC,
    }
    with running_engine(kv_events_config=events) as engine:
        followed = Followed(engine, endpoints)
        # Before anybody listens: a subscription asks for what it has missed.
        await followed.ask("early", [7] * 64)
        following = asyncio.create_task(followed.feed.follow(followed.subscription.batches()))
        yield followed
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_blocks_have_the_routers_hashes(followed: Followed) -> None:
    """Prompts and answers, in chunks of 128 tokens; what came before the subscription, too."""
    answer = await followed.ask("first", PROMPT, max_tokens=40)
    conversation = [*PROMPT, *answer.outputs[0].token_ids]
    await followed.wait_for(keys(conversation[:-1]))
    assert followed.stored().keys() >= set(keys([7] * 64))
    assert followed.subscription.num_replayed > 0
    further = await followed.ask("next turn", [*conversation, *range(100)])
    assert further.num_cached_tokens == len(keys(conversation[:-1])) * BLOCK_SIZE


async def test_what_an_answer_fills_comes_in_few_messages(followed: Followed) -> None:
    """Though the engine fills it block after block."""
    before = len(followed.updates)
    answer = await followed.ask("long", [11] * 64, max_tokens=6 * BLOCK_SIZE)
    await followed.wait_for(keys([*[11] * 64, *answer.outputs[0].token_ids[:-1]]))
    filled = [[each for each in update.changes if isinstance(each, KvStored)] for update in followed.updates[before:]]
    assert any(len(changes) > 1 for changes in filled), "each block was told by itself"


async def test_a_salt_makes_other_blocks(followed: Followed) -> None:
    """As in keys."""
    await followed.ask("salted", PROMPT, cache_salt="tenant a")
    await followed.wait_for(keys(PROMPT, cache_salt="tenant a"))


async def test_what_is_evicted_is_told(followed: Followed) -> None:
    """Never more than there is; what is left is what the engine reuses."""
    prompts = [[number, *PROMPT[1:]] for number in range(8)]
    for number, prompt in enumerate(prompts):
        await followed.ask(f"many {number}", prompt)
    await followed.wait_for(keys(prompts[-1]))
    assert sum(followed.stored().values()) <= NUM_BLOCKS - 1
    for number, prompt in enumerate(prompts[-2:]):
        held = [each in followed.stored() for each in keys(prompt)[: (len(prompt) - 1) // BLOCK_SIZE]]
        answer = await followed.ask(f"again {number}", prompt)
        assert answer.num_cached_tokens == (held.index(False) if False in held else len(held)) * BLOCK_SIZE


async def test_a_snapshot_is_all_there_is(followed: Followed) -> None:
    """Block for block, copies included."""
    before = followed.stored()
    followed.feed.send_snapshot()
    snapshot = followed.updates.pop()
    assert snapshot.kind == "snapshot"
    assert snapshot.number == followed.updates[-1].number
    again = Followed(followed.engine, followed.endpoints)
    again.updates.append(snapshot)
    assert again.stored() == before


async def test_an_emptied_cache_is_told_with_the_next_step(followed: Followed) -> None:
    """Which is when vLLM publishes it."""
    assert await followed.engine.reset_prefix_cache()
    await followed.ask("afterwards", [9] * 32)
    await followed.wait_for(keys([9] * 32))
    assert followed.stored().keys() == set(keys([9] * 32))

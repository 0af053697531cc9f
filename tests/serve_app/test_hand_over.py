"""What a replica does when it joins, leaves, and when another one leaves; among peers that are played."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from router import BlockHash, ReplicaId
from serve_app import hand_over
from serve_app.delivery import DeliveryError
from serve_app.hand_over import LEFT_AFTER_S, TAKE_OVER_S, HandOver
from serve_app.receipts import Receipt, Warmed
from serve_app.recent_prompts import RecentPrompts
from tests.serve_app.test_recent_prompts import BLOCK_SIZE, keys, tokens

ME, OTHER = ReplicaId("me"), ReplicaId("other")


class FakePeers:
    """Routers that want the prefixes of the other replica's prompts, and give every prompt to it."""

    def __init__(self, *blocks: tuple[int, ...]) -> None:
        self.prompts = RecentPrompts(model="m", block_size=BLOCK_SIZE, max_tokens=1000)
        self.wanted: list[BlockHash] = []
        for each in blocks:
            self.prompts.add(tokens(*each))
            self.wanted.append(BlockHash(keys(*each)[-1]))
        self.given: dict[ReplicaId, list[bytes]] = {}
        self.is_absent = False

    async def prefixes_for(self, rank: int) -> list[BlockHash]:
        """All."""
        assert rank == 3
        if self.is_absent:
            raise DeliveryError("nobody")
        return self.wanted

    async def fetch(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """Those that there are."""
        return {key: each.token_ids.tobytes() for key, each in self.prompts.find(block_hashes).items()}

    async def places_of(self, prompts: Sequence[Sequence[BlockHash]]) -> list[ReplicaId]:
        """To the other one."""
        if self.is_absent:
            raise DeliveryError("nobody")
        return [OTHER] * len(prompts)

    async def give(self, replica_to_prompts: Mapping[ReplicaId, Sequence[bytes]]) -> None:
        """Note it."""
        self.given |= {replica_id: list(prompts) for replica_id, prompts in replica_to_prompts.items()}


class Replica:
    """One with a clock that stands, an engine that notes what it computes, and a list of receipts."""

    def __init__(self, peers: FakePeers) -> None:
        self.prompts = RecentPrompts(model="m", block_size=BLOCK_SIZE, max_tokens=1000)
        self.computed: list[list[int]] = []
        self.receipts: list[Receipt] = []
        self.is_busy = False
        self.now_s = 0.0
        self.hand_over = HandOver(
            ME,
            self.prompts,
            peers,
            prefill=self._prefill,
            report=self.receipts.append,
            is_busy=lambda: self.is_busy,
            clock=lambda: self.now_s,
        )

    async def _prefill(self, token_ids: Sequence[int]) -> bool:
        self.computed.append(list(token_ids))
        return True

    async def settle(self) -> None:
        """Until nothing is under way."""
        while self.hand_over.tasks:
            await asyncio.gather(*self.hand_over.tasks)


def warmed(*blocks: int) -> Warmed:
    """Its receipt."""
    return Warmed(tuple(map(BlockHash, keys(*blocks))))


async def test_a_replica_that_joins_computes_what_it_will_be_asked_for() -> None:
    """In the order of the routers, and tells them once all of them know it."""
    replica = Replica(FakePeers((1, 2), (3,)))
    await replica.hand_over.join(3)
    assert replica.computed == [tokens(1, 2, rest=0), tokens(3, rest=0)]
    for answers in ([None, None], [False, True], []):
        replica.hand_over.on_membership(answers)
        assert replica.receipts == []
    replica.hand_over.on_membership([True, None])
    replica.hand_over.on_membership([True, True])
    assert replica.receipts == [warmed(1, 2), warmed(3)]


async def test_without_peers_it_joins_cold() -> None:
    """The first of all replicas."""
    peers = FakePeers((1, 2))
    peers.is_absent = True
    replica = Replica(peers)
    await replica.hand_over.join(3)
    assert replica.computed == []


async def test_it_does_not_let_clients_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is warm when time is over is told of, the rest is left."""
    monkeypatch.setattr(hand_over, "JOIN_S", 0.01)
    replica = Replica(FakePeers((1, 2), (3,)))
    never = asyncio.Event()
    compute = replica.hand_over._prefill

    async def prefill(token_ids: Sequence[int]) -> bool:
        if replica.computed:
            await never.wait()
        return await compute(token_ids)

    replica.hand_over._prefill = prefill
    await replica.hand_over.join(3)
    replica.hand_over.on_membership([True])
    assert replica.receipts == [warmed(1, 2)]


async def test_one_that_leaves_gives_its_conversations_away() -> None:
    """Once no router has known it for a while; the last served first, and only once."""
    peers = FakePeers()
    replica = Replica(peers)
    replica.prompts.add(tokens(1, 2))
    replica.prompts.add(tokens(5))
    for answers in ([False], [None], [True, True], [True, False], [None]):
        replica.hand_over.on_membership(answers)
        await replica.settle()
        assert peers.given == {}, "not a member yet, or still one of somebody's"
        replica.now_s += LEFT_AFTER_S
    replica.hand_over.on_membership([False, False])
    await replica.settle()
    assert peers.given == {}, "Serve may list it again in a moment"
    replica.now_s += LEFT_AFTER_S
    replica.hand_over.on_membership([False, False])
    await replica.settle()
    assert {key: [list(memoryview(each).cast("I")) for each in given] for key, given in peers.given.items()} == {
        OTHER: [tokens(5, rest=0), tokens(1, 2, rest=0)]
    }
    peers.given.clear()
    replica.hand_over.on_membership([False])
    await replica.settle()
    assert peers.given == {}


async def test_a_failed_hand_over_is_no_more_than_that() -> None:
    """Streams go on."""
    peers = FakePeers()
    peers.is_absent = True
    replica = Replica(peers)
    replica.prompts.add(tokens(1, 2))
    replica.hand_over.on_membership([True])
    for _ in range(2):
        replica.hand_over.on_membership([False])
        replica.now_s += LEFT_AFTER_S
    await replica.settle()
    assert peers.given == {}


def given_to_us(*blocks: tuple[int, ...]) -> dict[ReplicaId, list[bytes]]:
    """And something to another one."""
    peers = FakePeers((9,), *blocks)
    prompts = [each.token_ids.tobytes() for each in peers.prompts.newest_first()]
    return {ME: prompts[:-1], OTHER: prompts[-1:]}


async def test_what_is_taken_over_is_computed_and_told() -> None:
    """Only what is ours; and it can be given on."""
    replica = Replica(FakePeers())
    replica.hand_over.on_membership([True])
    replica.hand_over.take_over(given_to_us((1, 2), (3,)))
    await replica.settle()
    assert replica.computed == [tokens(3, rest=0), tokens(1, 2, rest=0)]
    assert replica.receipts == [warmed(3), warmed(1, 2)]
    assert replica.hand_over.share([BlockHash(keys(1)[-1])]).keys() == {keys(1)[-1]}


@pytest.mark.parametrize("waiting_s", [TAKE_OVER_S / 2, TAKE_OVER_S])
async def test_clients_come_first(monkeypatch: pytest.MonkeyPatch, waiting_s: float) -> None:
    """While some wait, nothing is computed; after too long, it never is."""
    monkeypatch.setattr(hand_over, "PAUSE_S", 0.0)
    replica = Replica(FakePeers())
    replica.is_busy = True
    replica.hand_over.take_over(given_to_us((1, 2), (3,)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert replica.computed == []
    replica.is_busy, replica.now_s = False, waiting_s
    await replica.settle()
    assert len(replica.computed) == (2 if waiting_s < TAKE_OVER_S else 0)


async def test_an_engine_that_refuses_holds_nothing() -> None:
    """One that makes no text, say."""
    replica = Replica(FakePeers((1, 2)))

    async def refuse(_: Sequence[int]) -> bool:
        return False

    replica.hand_over._prefill = refuse
    await replica.hand_over.join(3)
    replica.hand_over.on_membership([True])
    assert replica.receipts == []

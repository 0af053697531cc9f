"""What a replica does when it joins, among peers that are played."""

import asyncio
from collections.abc import Sequence

import pytest

from router import BlockHash
from serve_app.messages.delivery import DeliveryError
from serve_app.messages.receipts import BatchAnswer, Receipt, Warmed
from serve_app.replica.warmth import join as warm_up
from serve_app.replica.warmth.join import WarmUp
from serve_app.replica.warmth.recent_prompts import RecentPrompts
from tests.serve_app.replica.warmth.test_recent_prompts import BLOCK_SIZE, keys, tokens

KNOWN, UNKNOWN, UNDECIDED = BatchAnswer.KNOWN, BatchAnswer.UNKNOWN, BatchAnswer.UNDECIDED


class FakePeers:
    """Routers that want the prefixes of another replica's prompts."""

    def __init__(self, *blocks: tuple[int, ...]) -> None:
        self.prompts = RecentPrompts(model="m", block_size=BLOCK_SIZE, max_tokens=1000, clock=lambda: 0.0)
        self.wanted: list[BlockHash] = []
        for each in blocks:
            self.prompts.add(tokens(*each))
            self.wanted.append(BlockHash(keys(*each)[-1]))
        self.is_absent = False

    async def prefixes_for(self, rank: int) -> list[BlockHash]:
        """All."""
        assert rank == 3
        if self.is_absent:
            raise DeliveryError("no one")
        return self.wanted

    async def fetch(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """The prefixes that are there."""
        return {key: each.token_ids.tobytes() for key, each in self.prompts.find(block_hashes).items()}


class Replica:
    """A replica with an engine that notes what it computes, and a list of receipts."""

    def __init__(self, peers: FakePeers) -> None:
        self.prompts = RecentPrompts(model="m", block_size=BLOCK_SIZE, max_tokens=1000, clock=lambda: 0.0)
        self.computed: list[list[int]] = []
        self.receipts: list[Receipt] = []
        self.warm_up = WarmUp(self.prompts, peers, prefill=self._prefill, report=self.receipts.append)

    async def _prefill(self, token_ids: Sequence[int]) -> bool:
        self.computed.append(list(token_ids))
        return True


def warmed(*blocks: int) -> Warmed:
    """Its receipt."""
    return Warmed(tuple(map(BlockHash, keys(*blocks))))


async def test_a_replica_that_joins_computes_what_it_will_be_asked_for() -> None:
    """In the order of the routers, and tells them once all of them know it."""
    replica = Replica(FakePeers((1, 2), (3,)))
    await replica.warm_up.join(3)
    assert replica.computed == [tokens(1, 2, rest=0), tokens(3, rest=0)]
    for answers in ([UNDECIDED, UNDECIDED], [UNKNOWN, KNOWN], []):
        replica.warm_up.on_membership(answers)
        assert replica.receipts == []
    replica.warm_up.on_membership([KNOWN, UNDECIDED])
    replica.warm_up.on_membership([KNOWN, KNOWN])
    assert replica.receipts == [warmed(1, 2), warmed(3)]
    assert replica.warm_up.share([BlockHash(keys(1)[-1])]).keys() == {keys(1)[-1]}, "and can warm others"


async def test_without_peers_it_joins_cold() -> None:
    """The first of all replicas."""
    peers = FakePeers((1, 2))
    peers.is_absent = True
    replica = Replica(peers)
    await replica.warm_up.join(3)
    assert replica.computed == []


async def test_it_does_not_let_clients_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is warm when time is over is told of, the rest is left."""
    monkeypatch.setattr(warm_up, "JOIN_S", 0.01)
    replica = Replica(FakePeers((1, 2), (3,)))
    never = asyncio.Event()
    compute = replica.warm_up._prefill

    async def prefill(token_ids: Sequence[int]) -> bool:
        if replica.computed:
            await never.wait()
        return await compute(token_ids)

    replica.warm_up._prefill = prefill
    await replica.warm_up.join(3)
    replica.warm_up.on_membership([KNOWN])
    assert replica.receipts == [warmed(1, 2)]


async def test_an_engine_that_refuses_has_cached_nothing() -> None:
    """One that makes no text, say."""
    replica = Replica(FakePeers((1, 2)))

    async def refuse(_: Sequence[int]) -> bool:
        return False

    replica.warm_up._prefill = refuse
    await replica.warm_up.join(3)
    replica.warm_up.on_membership([KNOWN])
    assert replica.receipts == []

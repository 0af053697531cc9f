"""Merged updates say what the single ones do."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from router import BlockHash, Router
from serve_app.ingress.kv_sources import KvSources
from serve_app.messages.kv_updates import KvChange, KvCleared, KvRemoved, KvStored, KvUpdate
from serve_app.replica.kv_events.merge import merged, merged_changes
from tests.builders import make_replica, make_router

ONE = make_replica(0).replica_id
NUM_CHAINS = 4
DEPTH = 5


def block(*path: int) -> BlockHash:
    """A block's hash, which stands for all before it, too."""
    number = 1
    for each in path:
        number = number * NUM_CHAINS + each
    return BlockHash(number)


def chain(path: tuple[int, ...]) -> tuple[BlockHash, ...]:
    """The blocks from the start to the end of a path."""
    return tuple(block(*path[: end + 1]) for end in range(len(path)))


def stored(*path: int, num_new: int) -> KvStored:
    """The last blocks of a path."""
    hashes = chain(path)
    start = len(hashes) - num_new
    return KvStored(hashes[start - 1] if start else None, hashes[start:])


def change(rng: Random) -> KvChange:
    """Any: of blocks that are there, that are not, and that build on some that are not."""
    roll = rng.random()
    if roll < 0.02:
        return KvCleared()
    path = tuple(rng.randrange(NUM_CHAINS) for _ in range(rng.randint(1, DEPTH)))
    if roll < 0.6:
        return stored(*path, num_new=rng.randint(1, len(path)))
    return KvRemoved(chain(path)[: -rng.randint(1, len(path)) - 1 : -1])


def follow(updates: list[KvUpdate]) -> Router:
    """A router that was told."""
    router, book = make_router(num_replicas=1, kv_capacity_tokens=4000), KvSources()
    for update in updates:
        assert not book.on_update(ONE, update, router)
    router.check_integrity()
    return router


@given(st.integers(), st.integers(1, 60))
def test_a_router_ends_with_the_same(seed: int, num_updates: int) -> None:
    """What can be reused of every path, and what comes back when a missing block does."""
    rng = Random(seed)
    updates = [
        KvUpdate(number, tuple(change(rng) for _ in range(rng.randint(1, 3))), num_steps=1)
        for number in range(1, num_updates + 1)
    ]
    single = follow(updates)
    (as_one,) = merged(updates)
    assert (as_one.number, as_one.num_steps) == (num_updates, num_updates)
    at_once = follow([as_one])
    for _ in range(30):
        path = tuple(rng.randrange(NUM_CHAINS) for _ in range(DEPTH))
        held = [router.cluster.holders.matched_blocks(ONE, chain(path)) for router in (single, at_once)]
        assert held[0] == held[1]
        for router in (single, at_once):
            router.on_blocks_stored(ONE, None, chain(path)[:1])


def test_it_is_few_changes() -> None:
    """Removals together, and answers that grow block by block as one chain each."""
    changes = [
        stored(0, 1, num_new=2),
        KvRemoved((block(3),)),
        stored(0, 1, 2, num_new=1),
        stored(2, num_new=1),
        KvRemoved((block(3, 1),)),
        stored(0, 1, 2, 3, num_new=1),
    ]
    assert merged_changes(changes) == [
        KvRemoved((block(3), block(3, 1))),
        stored(0, 1, 2, 3, num_new=4),
        stored(2, num_new=1),
    ]


def test_what_comes_and_goes_stays_in_its_order() -> None:
    """A removal of a block that was stored in between comes after that; nothing from before a clearing is left."""
    comes_and_goes = [stored(1, num_new=1), KvRemoved((block(1),)), stored(1, num_new=1)]
    assert merged_changes(comes_and_goes) == comes_and_goes
    assert merged_changes([*comes_and_goes, KvCleared(), stored(2, num_new=1)]) == [
        KvCleared(),
        stored(2, num_new=1),
    ]


def test_gaps_and_other_kinds_are_kept() -> None:
    """A router shall notice what is missing; a heartbeat says nothing more than the number."""
    one = KvUpdate(1, (stored(1, num_new=1),), num_steps=1)
    beat = KvUpdate(1)
    three = KvUpdate(3, (stored(2, num_new=1),), num_steps=1)
    snapshot = KvUpdate(3, (stored(2, num_new=1),), kind="snapshot")
    lost = KvUpdate(4, kind="lost")
    assert merged([one, beat, three, snapshot, lost]) == [one, three, snapshot, lost]

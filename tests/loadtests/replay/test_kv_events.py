"""Engines that tell what they have."""

from dataclasses import replace
from random import Random

from loadtests.replay.agenda import Agenda
from loadtests.replay.prefix_cache import PrefixCache
from loadtests.replay.processes import ReceiptBatch, ReplicaProcess, RouterProcess
from loadtests.replay.simulation import Simulation
from loadtests.replay.transport import Channel, Fault, dropped
from router import BlockHash, Replica, ReplicaId, RequestId
from serve_app.messages.batches import encode
from serve_app.messages.kv_updates import KvChange, KvRemoved, KvStored, KvUpdate
from serve_app.messages.receipts import Prefilled
from tests.loadtests.replay.builders import (
    OPTIONS,
    make_conversations,
    make_engine,
    make_route_request,
    make_scenario,
    make_small_router,
    make_trace_request,
)

REPLICA = ReplicaId("replica-0")
A, B, C = (BlockHash(number) for number in range(3))


def test_a_cache_tells_what_it_stores_and_evicts() -> None:
    """Room for two: evicted is the last block of what was released, told before what takes its place."""
    events: list[KvChange] = []
    cache = PrefixCache(capacity_blocks=2, events=events)
    blocks = cache.store([A])
    blocks += cache.store([B], parent=blocks[-1])
    cache.release(blocks)
    cache.store([C])
    assert events == [
        KvStored(None, (A,)),
        KvStored(A, (B,)),
        KvRemoved((B,)),
        KvStored(None, (C,)),
    ]


def tell(process: RouterProcess, number: int, block: BlockHash) -> None:
    """The replica's update of that number, which stores a block."""
    update = KvUpdate(number, (KvStored(None, (block,)),), num_steps=1)
    process.on_receipts(encode(REPLICA, number, (), (update,)), now=0)


def test_a_router_is_exact_until_an_update_is_missing() -> None:
    """One that is skipped ends it; later ones mean nothing, as simulated replicas send no snapshots."""
    process = RouterProcess("router", make_small_router(), [].append)
    holders = process.router.cluster.holders
    for number, block, num_cached in ((1, A, 1), (2, C, 2), (4, B, 2), (5, B, 2)):
        tell(process, number, block)
        assert holders.num_blocks(REPLICA) == num_cached
        assert holders.is_exact(REPLICA) == (number < 4)


def test_a_router_that_comes_late_knows_nothing() -> None:
    """The first updates are gone."""
    process = RouterProcess("router", make_small_router(), [].append)
    tell(process, 2, A)
    assert not process.router.cluster.holders.is_exact(REPLICA)


def believed_and_cached(*, is_telling: bool) -> list[tuple[int, int]]:
    """One request after the other, at an engine with a tenth of the memory that its router is told of."""
    agenda, router = Agenda(), make_small_router()
    router.set_replicas([Replica(REPLICA, 0, 10 * OPTIONS.kv_capacity_tokens)])
    process = RouterProcess("router", router, [].append)
    cached: list[int] = []

    def note(batch: ReceiptBatch) -> None:
        cached.extend(each.cached_tokens for each in batch.items if isinstance(each, Prefilled))
        process.on_receipts(encode(batch.sender, batch.number, batch.items, batch.kv_updates), now=agenda.now_s)
        router.check_integrity()

    replica = ReplicaProcess(REPLICA, make_engine(), agenda, note, is_telling=is_telling)
    believed = []
    rng = Random(1)
    for number in range(200):
        blocks = [10 * depth + rng.randrange(2) if depth else 0 for depth in range(rng.randint(1, 8))]
        chain = [sum(block << 8 * index for index, block in enumerate(blocks[: end + 1])) for end in range(len(blocks))]
        request = make_trace_request(*chain, extra_tokens=rng.randint(0, 1), output_tokens=rng.randint(1, 40))
        believed.append(
            router.choose(make_route_request(str(number), request), now=agenda.now_s).decision.believed_cached_tokens
        )
        replica.submit(RequestId(str(number)), request)
        agenda.run_until(agenda.now_s + 10)
    return list(zip(believed, cached, strict=True))


def test_with_events_what_is_believed_is_what_the_engine_reuses() -> None:
    """To the token, though the router thinks that the cache is ten times as large; without them, it is not."""
    exact = believed_and_cached(is_telling=True)
    assert all(believed == cached for believed, cached in exact)
    assert len({cached for _, cached in exact}) > 4
    assert any(believed != cached for believed, cached in believed_and_cached(is_telling=False))


def selected_tokens(*, is_telling: bool) -> list[int]:
    """Prompt tokens that routers say they sent to where they are cached, by the KV capacity that they are told."""
    scenario = replace(make_scenario(), requests=make_conversations(24), is_telling=is_telling)
    true_tokens = OPTIONS.kv_capacity_tokens
    runs = [
        Simulation(replace(scenario, told_kv_tokens=told)).run()
        for told in (true_tokens * 2 // 3, true_tokens, true_tokens * 10)
    ]
    assert all(set(run.router_to_reservations_left.values()) == {0} for run in runs)
    return [run.funnel.selected for run in runs]


def test_events_make_up_for_a_capacity_that_is_not_true() -> None:
    """What is taken to be cached is as much, whatever routers are told; without events, it grows with what they are.

    To the token it need not be: a replica's memory, and how fast it turns over, are part of a placement's cost.
    """
    told, believed = selected_tokens(is_telling=True), selected_tokens(is_telling=False)
    assert max(told) < 1.05 * min(told)
    assert believed[2] > 1.15 * max(believed[:2])


def test_lost_events_cost_no_request() -> None:
    """From the gap on there are receipts."""
    fault = Fault(dropped, frozenset({Channel.KV_EVENTS}), 8, 18)
    run = Simulation(replace(make_scenario(), is_telling=True, faults=(fault,))).run()
    assert run.num_finished == 48
    assert run.router_to_reservations_left == {"router-0": 0, "router-1": 0}

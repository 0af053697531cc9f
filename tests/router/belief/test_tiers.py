"""Two tiers of a replica: the estimates of the second one, and when there are some."""

from collections import OrderedDict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import BlockHash, CachedTokens, Replica, ReplicaId, Router, RouteRequest
from router.belief.tiers import Tiers
from tests.builders import BLOCK_SIZE, make_request, make_router

ONE, TWO = Replica(ReplicaId("one"), 0, 6 * BLOCK_SIZE, 14 * BLOCK_SIZE), Replica(ReplicaId("two"), 1, 400, 4000)
paths = st.lists(st.integers(0, 2), min_size=1, max_size=6)


class NaiveLru:
    """An LRU of blocks, one by one: a prompt uses all of its blocks, the deepest ones as the oldest."""

    def __init__(self, capacity_blocks: int) -> None:
        self.capacity_blocks = capacity_blocks
        self.blocks: OrderedDict[BlockHash, None] = OrderedDict()

    def num_held(self, request: RouteRequest) -> int:
        """Leading blocks."""
        return next(
            (number for number, each in enumerate(request.block_hashes) if each not in self.blocks),
            len(request.block_hashes),
        )

    def use(self, request: RouteRequest) -> None:
        """Hold all of the prompt; what was used longest ago goes."""
        for each in reversed(request.block_hashes):
            self.blocks.pop(each, None)
            self.blocks[each] = None
        while len(self.blocks) > self.capacity_blocks:
            self.blocks.popitem(last=False)


class Engine:
    """One replica that serves one prompt at a time, with a cache and a larger tier, both of them naive."""

    def __init__(self, router: Router, replica: Replica) -> None:
        self.router = router
        self.replica = replica
        self.cache, self.host = NaiveLru(replica.kv_capacity_tokens // 4), NaiveLru(replica.host_capacity_tokens // 4)
        self.num_asked = 0

    def cached(self, request: RouteRequest) -> CachedTokens:
        """What the engine really has of a prompt, by tier."""
        local, host = (BLOCK_SIZE * each.num_held(request) for each in (self.cache, self.host))
        return CachedTokens(local, max(0, host - local))

    def serve(self, *blocks: int, external: int | None = None, cached: int | None = None) -> None:
        """From its arrival to its end; numbers in place of the true ones of the engine, if given, in tokens."""
        self.num_asked += 1
        request = make_request(f"{self.replica.replica_id} {self.num_asked}", *blocks)
        self.router.choose(request, now=0)
        really = self.cached(request)
        self.cache.use(request)
        self.host.use(request)
        self.router.on_prefilled(
            request.request_id,
            prompt_tokens=request.num_prompt_tokens,
            cached_tokens=really.total if cached is None else cached,
            external_cached_tokens=really.external if external is None else external,
            now=0,
        )
        self.router.on_finished(request.request_id, now=0)
        self.router.check_integrity()


def make_engine(replica: Replica = ONE, *, is_proven: bool = True) -> Engine:
    """The only replica of a router; a proven tier has given one block back."""
    router = make_router()
    router.set_replicas([replica])
    engine = Engine(router, replica)
    if is_proven:
        engine.serve(8, external=BLOCK_SIZE, cached=BLOCK_SIZE)
    return engine


def estimated(engine: Engine, *blocks: int) -> CachedTokens:
    """The estimated tokens of a prompt of these blocks."""
    return engine.router.cluster.cached(engine.replica, make_request("asked", *blocks))


@settings(max_examples=200)
@given(st.lists(paths, max_size=40), paths)
def test_two_levels_are_two_lrus(served: list[list[int]], asked: list[int]) -> None:
    """The contents of each tier are those of an LRU of its capacity that saw the same prompts."""
    engine = make_engine()
    for blocks in served:
        engine.serve(*blocks)
    assert estimated(engine, *asked) == engine.cached(make_request("asked", *asked))


def test_nothing_is_expected_before_tokens_came_back() -> None:
    """Six blocks fit the cache: 1-2-3 has left it. The tier has it, and counts from its first receipt on."""
    engine = make_engine(is_proven=False)
    engine.serve(1, 2, 3)
    engine.serve(4, 5, 6)
    engine.serve(7, 8, 9)
    assert engine.cached(make_request("asked", 1, 2, 3)) == CachedTokens(0, 12)
    assert estimated(engine, 1, 2, 3) == CachedTokens(0, 0)
    engine.serve(1, 2, 3)
    assert engine.router.cluster.tiers.is_proven(ONE.replica_id)
    engine.serve(10, 11, 12)
    assert estimated(engine, 7, 8, 9) == CachedTokens(0, 12)  # it was in the cache when the proof came
    assert estimated(engine, 4, 5, 6) == CachedTokens(0, 0)  # it had left the cache before


def test_a_tier_of_unknown_size_proves_nothing() -> None:
    """A replica that reports none, and whose receipts tell of reloads all the same."""
    replica = Replica(ONE.replica_id, 0, ONE.kv_capacity_tokens)
    engine = make_engine(replica)
    assert not engine.router.cluster.tiers.is_proven(replica.replica_id)


def test_trust_falls_with_what_does_not_come() -> None:
    """Each prompt was estimated to be in the tier, and nothing of it came: its share of the expectations fades."""
    engine = make_engine()
    shares = []
    for number in range(20):
        first = 100 + 10 * (number % 3)
        engine.serve(first, first + 1, first + 2, first + 3, external=0, cached=0)
        shares.append(engine.router.cluster.tiers.share(ONE.replica_id))
    assert shares[:3] == [1.0, 1.0, 1.0]  # they were new: nothing was expected
    assert all(later < earlier for earlier, later in pairwise(shares[2:]))
    assert shares[-1] < 0.1
    oldest = 100 + 10 * (20 % 3)
    assert estimated(engine, oldest, oldest + 1, oldest + 2, oldest + 3).external <= 0.1 * 16


def test_a_tier_that_gives_half_is_expected_to_give_half() -> None:
    """The engine gives back two blocks of four, each time."""
    engine = make_engine()
    for number in range(60):
        first = 100 + 10 * (number % 3)
        external = 2 * BLOCK_SIZE if number > 2 else 0
        engine.serve(first, first + 1, first + 2, first + 3, external=external, cached=external)
    assert engine.router.cluster.tiers.share(ONE.replica_id) == pytest.approx(0.5, abs=0.05)
    assert estimated(engine, 100, 101, 102, 103).external == pytest.approx(8, abs=1)


def test_a_doubted_replica_is_expected_to_give_nothing_from_its_tier() -> None:
    """It may not find prompts by our keys at all."""
    engine = make_engine()
    engine.serve(1, 2, 3)
    engine.serve(4, 5, 6, 7)
    assert estimated(engine, 1, 2, 3).external == 4
    engine.router.set_parity(ONE.replica_id, is_known=False)
    assert estimated(engine, 1, 2, 3).external == 0


def test_after_a_reset_the_tier_keeps_what_it_has() -> None:
    """vLLM's resets are of the GPU's cache."""
    engine = make_engine()
    engine.serve(1, 2, 3)
    engine.serve(4, 5, 6, 7)
    engine.router.on_caches_reset()
    assert estimated(engine, 1, 2, 3) == CachedTokens(0, 12)


def test_a_tier_that_is_reported_no_more_is_forgotten() -> None:
    """Also while a request is under way, of which something was expected."""
    engine = make_engine()
    engine.router.choose(make_request("under way", 1, 2), now=0)
    engine.router.set_replicas([Replica(ONE.replica_id, 0, ONE.kv_capacity_tokens)])
    engine.router.check_integrity()
    assert not engine.router.cluster.tiers.is_proven(ONE.replica_id)
    engine.router.set_replicas([])
    engine.router.check_integrity()


def test_a_proven_tier_that_shrinks_keeps_what_was_used_last() -> None:
    """There are seven blocks in two prompts, and the four of the second one fit."""
    engine = make_engine()
    engine.serve(1, 2, 3)
    engine.serve(4, 5, 6, 7)
    engine.router.set_replicas([Replica(ONE.replica_id, 0, ONE.kv_capacity_tokens, 4 * BLOCK_SIZE)])
    engine.router.check_integrity()
    engine.router.on_caches_reset()
    assert estimated(engine, 1, 2, 3) == CachedTokens(0, 0)
    assert estimated(engine, 4, 5, 6, 7) == CachedTokens(0, 16)


def test_kv_events_say_nothing_of_the_second_tier() -> None:
    """The engine's events tell that its cache is empty, and the tier is estimated as before."""
    engine = make_engine()
    engine.serve(1, 2, 3)
    engine.router.on_blocks_cleared(ONE.replica_id)
    assert estimated(engine, 1, 2, 3) == CachedTokens(0, 12)
    engine.router.on_blocks_stored(ONE.replica_id, None, make_request("asked", 1, 2).block_hashes)
    assert estimated(engine, 1, 2, 3) == CachedTokens(8, 4)
    engine.serve(1, 2, 3, 4)
    assert estimated(engine, 1, 2, 3, 4) == CachedTokens(8, 8)


def test_a_router_that_joins_has_the_same_estimates() -> None:
    """It takes over its peer's state, proof included; its own uses, if it has some, count as the later ones."""
    engine = make_engine()
    engine.serve(1, 2, 3)
    engine.serve(4, 5, 6, 7)
    state = engine.router.export(ONE.replica_id, now=0)
    assert state is not None
    for is_proven in (False, True):
        joining = make_engine(is_proven=is_proven)
        joining.router.adopt(state, now=0)
        joining.router.check_integrity()
        assert estimated(joining, 1, 2, 3).total == estimated(engine, 1, 2, 3).total == 12


def test_a_prompt_goes_to_the_tier_that_has_it() -> None:
    """The other replica is as idle; what comes back counts as cached, apart in the reservation."""
    router = make_router()
    small, large = (Replica(ReplicaId(name), rank, 24, 4000) for rank, name in enumerate(("small", "large")))
    router.set_replicas([small, large])
    request = make_request("first", 1, 2, 3)
    home = router.choose(request, now=0).decision.replica_id
    router.cluster.tiers.prove(home, ())
    router.on_prefilled(request.request_id, prompt_tokens=13, cached_tokens=0, now=0)
    router.on_finished(request.request_id, now=0)
    router.cluster.holders.clear()  # as if the cache held other prompts by now
    asked = make_request("second", 1, 2, 3, 4)
    decision, reservation = router.choose(asked, now=0)
    assert decision.replica_id == home
    assert (decision.believed_cached_tokens, decision.best_cached_tokens) == (12, 12)
    assert (reservation.num_held_blocks, reservation.external_tokens, reservation.pending_tokens) == (0, 12, 5)
    record = router.on_prefilled(asked.request_id, prompt_tokens=17, cached_tokens=12, external_cached_tokens=12, now=0)
    assert record is not None
    assert (record.reused, record.selected, record.reachable) == (12, 12, 12)
    router.check_integrity()


def test_reloading_takes_time() -> None:
    """The time is by the cluster's rate."""
    cluster = make_router().cluster
    cluster.host_tokens_per_s = 100.0
    assert cluster.reload_s(CachedTokens(local=500, external=20)) == 0.2


def test_an_unproven_tier_keeps_nothing() -> None:
    """Its memory is spared, however much is computed."""
    tiers = Tiers()
    tiers.set_capacity(ONE.replica_id, capacity_blocks=10)
    hashes = make_request("computed", 1, 2, 3).block_hashes
    tiers.on_computed(ONE.replica_id, hashes)
    assert tiers.match(hashes).cached_blocks == 0
    assert tiers.export(ONE.replica_id) is None
    tiers.check_integrity()

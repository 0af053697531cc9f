"""The router as its drivers use it."""

from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import NoReplicasError, RequestId, Router, RouteRequest
from router.policies import POLICY_NAMES, make_policy
from tests.builders import OPTIONS, make_replica, make_request, make_router


def test_without_replicas_it_says_so() -> None:
    """And books nothing."""
    router = make_router(num_replicas=0)
    with pytest.raises(NoReplicasError, match="no replica is ready"):
        router.choose(make_request("a", 1), now=0)
    router.check_integrity()


def test_peers_learn_load_and_beliefs_from_reservations() -> None:
    """Turn 1 through one router, turn 2 through the other: it finds the prefix all the same."""
    ours, peer = make_router(num_replicas=4), make_router(num_replicas=4)
    decision, reservation = ours.choose(make_request("turn-1", 1, 2), now=0)
    peer.on_reserved(reservation, now=0)
    for router in (ours, peer):
        router.on_prefilled(RequestId("turn-1"), prompt_tokens=9, cached_tokens=0, now=1)
        router.on_finished(RequestId("turn-1"))
    second, _ = peer.choose(make_request("turn-2", 1, 2, 3), now=2)
    assert second.replica_id == decision.replica_id
    assert second.believed_cached_tokens == 8


def test_our_own_broadcast_coming_back_changes_nothing() -> None:
    """A router is among the receivers of its own broadcast."""
    router = make_router()
    decision, reservation = router.choose(make_request("a", 1, 2), now=0)
    router.on_reserved(reservation, now=0)
    replica = next(each for each in router.cluster.replicas if each.replica_id == decision.replica_id)
    assert router.cluster.load_of(replica).pending_tokens == 9


def test_an_aborted_request_leaves_no_belief() -> None:
    """It ended before its first token, so nothing of it is cached."""
    router = make_router()
    decision, _ = router.choose(make_request("a", 1, 2), now=0)
    router.on_finished(decision.request_id)
    assert router.choose(make_request("b", 1, 2, 3), now=1).decision.best_cached_tokens == 0


def test_a_request_that_never_arrives_is_not_counted_for_long() -> None:
    """HAProxy turned elsewhere with it: after 10 s the reservation is released, and the belief with it."""
    router = make_router(ttl_s=60)
    router.choose(make_request("lost", 1, 2), now=0)
    assert router.expire(now=9) == 0
    assert router.expire(now=10) == 1
    assert all(router.cluster.load_of(replica).num_requests == 0 for replica in router.cluster.replicas)
    assert router.choose(make_request("next", 1, 2, 3), now=10).decision.best_cached_tokens == 0


def test_a_lost_receipt_is_not_counted_for_ever() -> None:
    """It arrived, and nothing was heard of it for 60 s."""
    router = make_router(ttl_s=60)
    router.choose(make_request("silent", 1, 2), now=0)
    router.on_arrived(RequestId("silent"), now=1)
    assert router.expire(now=60) == 0
    assert router.expire(now=61) == 1


def test_belief_follows_an_engine_that_evicts_earlier() -> None:
    """It had lost two of three blocks that we believed held: the two that were used longest ago go with them."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    for number, prompt in enumerate([(7, 8), (1, 2, 3)]):
        answer(router, make_request(str(number), *prompt), cached_tokens=0)
    answer(router, make_request("again", 1, 2, 3, 4), cached_tokens=4)
    assert router.cluster.cached_tokens(replica, make_request("old", 7, 8)) == 0
    assert router.cluster.cached_tokens(replica, make_request("new", 1, 2, 3, 4, 5)) == 16


def test_belief_is_not_corrected_by_a_request_that_overtook_its_prefix() -> None:
    """Two turns sent together: the second found nothing, because the first was not computed yet, not evicted."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    answer(router, make_request("old", 7, 8), cached_tokens=0)
    for request_id in ("first", "second"):
        router.choose(make_request(request_id, 1, 2, 3), now=0)
    for request_id in ("first", "second"):
        router.on_prefilled(RequestId(request_id), prompt_tokens=13, cached_tokens=0, now=1)
    assert router.cluster.cached_tokens(replica, make_request("", 7, 8)) == 8


def answer(router: Router, request: RouteRequest, *, cached_tokens: int) -> None:
    """A request from its decision to its end, at once."""
    router.choose(request, now=0)
    router.on_prefilled(request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=cached_tokens, now=0)
    router.on_finished(request.request_id)
    router.check_integrity()


def test_a_cache_reset_forgets_every_prefix() -> None:
    """And keeps the load, which is still there."""
    router = make_router()
    decision, _ = router.choose(make_request("a", 1, 2), now=0)
    router.on_prefilled(decision.request_id, prompt_tokens=9, cached_tokens=0, now=0)
    router.on_caches_reset()
    assert router.choose(make_request("b", 1, 2, 3), now=1).decision.best_cached_tokens == 0
    assert sum(router.cluster.load_of(replica).num_requests for replica in router.cluster.replicas) == 2


def test_a_new_policy_keeps_load_and_beliefs() -> None:
    """Switching back and forth costs no affinity."""
    router = make_router()
    decision, _ = router.choose(make_request("a", 1, 2), now=0)
    router.on_prefilled(decision.request_id, prompt_tokens=9, cached_tokens=0, now=0)
    router.policy = make_policy("round_robin", OPTIONS, Random(0))
    router.policy = make_policy("prefix_affinity", OPTIONS, Random(0))
    again, _ = router.choose(make_request("b", 1, 2, 3), now=1)
    assert (again.replica_id, again.believed_cached_tokens) == (decision.replica_id, 8)


class RouterMachine(RuleBasedStateMachine):
    """Requests, receipts, peers, failures and policy changes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.router = make_router(num_replicas=3, ttl_s=10)
        self.now = 0.0
        self.num_requests = 0
        self.generation = 0

    @rule(prompt=st.lists(st.integers(0, 2), max_size=6))
    def choose(self, prompt: list[int]) -> None:
        """A request whose prefix is shared with others'."""
        self.num_requests += 1
        decision, _ = self.router.choose(make_request(str(self.num_requests), *prompt), now=self.now)
        assert decision.replica_id in {replica.replica_id for replica in self.router.cluster.replicas}

    @rule(data=st.data(), prompt_tokens=st.integers(0, 40), cached_tokens=st.integers(0, 40))
    def prefill(self, data: st.DataObject, prompt_tokens: int, cached_tokens: int) -> None:
        """A first token of a request, known or not."""
        self.router.on_prefilled(
            self._some_id(data), prompt_tokens=prompt_tokens, cached_tokens=cached_tokens, now=self.now
        )

    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """The replica has it."""
        self.router.on_arrived(self._some_id(data), now=self.now)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """An end."""
        self.router.on_finished(self._some_id(data))

    @rule(seconds=st.floats(0, 8))
    def pass_time(self, seconds: float) -> None:
        """Time goes on."""
        self.now += seconds

    @rule(ranks=st.sets(st.integers(0, 3), min_size=1), replaced=st.booleans())
    def change_replicas(self, ranks: set[int], replaced: bool) -> None:
        """Replicas leave, join, or are replaced under the same rank."""
        self.generation += replaced
        self.router.set_replicas(make_replica(rank, generation=self.generation) for rank in ranks)

    @rule(name=st.sampled_from(POLICY_NAMES))
    def change_policy(self, name: str) -> None:
        """An operator switches."""
        self.router.policy = make_policy(name, OPTIONS, Random(0))

    @invariant()
    def is_sound(self) -> None:
        """Whatever happened."""
        self.router.check_integrity()

    def teardown(self) -> None:
        """With everything expired, nothing is outstanding anywhere."""
        self.router.expire(now=self.now + 100)
        for replica in self.router.cluster.replicas:
            assert self.router.cluster.load_of(replica).num_requests == 0

    def _some_id(self, data: st.DataObject) -> RequestId:
        return RequestId(str(data.draw(st.integers(0, self.num_requests + 1))))


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(max_examples=60, stateful_step_count=40)

"""Policies by name, the simplest of them, and where ours sends whom."""

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import Reason, Replica, ReplicaId, Router, RoutingDecision, UnknownPolicyError
from router.cluster import PRIOR_WORK_SHARE
from router.load.answers import FIRST_GUESS_TOKENS
from router.policies import PrefixAffinity, make_policy
from router.policies.request_cost import CostWeights
from tests.builders import MODEL, book_waiting, make_replica, make_request, make_router

ROOM_TOKENS = 10**8
"""A cache of which nothing that a test sends is a noticeable part, so that none turns over faster than another."""


def test_an_unknown_policy_is_refused_by_name() -> None:
    """The message lists what exists."""
    with pytest.raises(UnknownPolicyError, match="unknown policy 'fastest': use one of prefix_affinity, round_robin"):
        make_policy("fastest", Random(0))


def test_round_robin_visits_in_turn() -> None:
    """Whichever comes first, the next three are the others, and then it again."""
    router = make_router("round_robin", num_replicas=4)
    chosen = [router.choose(make_request(str(number)), now=0).decision.replica_id for number in range(8)]
    assert len(set(chosen[:4])) == 4
    assert chosen[:4] == chosen[4:]


def test_least_loaded_goes_by_pending_tokens_not_requests() -> None:
    """One long prompt outweighs two short ones."""
    router = make_router("least_loaded")
    long = router.choose(make_request("long", num_prompt_tokens=1000), now=0).decision.replica_id
    first = router.choose(make_request("first", num_prompt_tokens=10), now=0).decision.replica_id
    second = router.choose(make_request("second", num_prompt_tokens=10), now=0).decision.replica_id
    assert first == second != long


class TestPrefixAffinity:
    """Where conversations start, and where they return; what each place costs is in test_cost.py."""

    def test_a_returning_conversation_goes_where_it_was(self) -> None:
        """The first turn is placed by the ring, the second by the cached prefix."""
        router = make_router(num_replicas=4, kv_capacity_tokens=ROOM_TOKENS)
        first, _ = router.choose(make_request("turn-1", 1, 2), now=0)
        router.on_finished(first.request_id, now=0)
        second, _ = router.choose(make_request("turn-2", 1, 2, 3), now=1)
        # Never prefilled, so nothing is cached: the ring alone has to find the place again.
        assert (first.reason, second.reason) == (Reason.RING, Reason.RING)
        assert second.replica_id == first.replica_id
        router.on_prefilled(second.request_id, prompt_tokens=13, cached_tokens=0, now=1.03)
        router.on_finished(second.request_id, now=2)
        third, _ = router.choose(make_request("turn-3", 1, 2, 3, 4), now=3)
        assert third.reason is Reason.PREFIX
        assert third.replica_id == first.replica_id
        assert third.believed_cached_tokens == 12

    def test_a_prefix_that_everybody_holds_decides_nothing(self) -> None:
        """A common system prompt must not send every user to the replica that saw it first."""
        router = make_router(num_replicas=4, kv_capacity_tokens=ROOM_TOKENS)
        for replica in router.cluster.eligible:
            router.cluster.holders.insert(replica.replica_id, make_request("", 1, 2).block_hashes)
        chosen = set()
        for user in range(100, 200):
            decision, _ = router.choose(make_request(str(user), 1, 2, user), now=0)
            router.on_finished(decision.request_id, now=0)
            assert decision.reason is Reason.RING
            chosen.add(decision.replica_id)
        assert len(chosen) == 4

    @pytest.mark.parametrize(
        ("waiting_tokens", "num_prompt_blocks", "expected"),
        [
            # Weight 3. Cost in ms at the holder: waiting + 3 * 1 token; elsewhere: 3 * (4 * blocks + 1).
            (24, 10, Reason.PREFIX),  # 24 + 3 < 3 * 41
            (48, 4, Reason.PREFIX),  # 48 + 3 = 3 * 17: a tie goes in ring order, and the ring placed the first
            (64, 2, Reason.SPILL),  # 64 + 3 > 3 * 9
        ],
    )
    def test_waiting_is_weighed_against_what_is_saved(
        self, waiting_tokens: int, num_prompt_blocks: int, expected: Reason
    ) -> None:
        """A cached prefix is worth its tokens times the weight, and no more."""
        router = make_router(
            PrefixAffinity(CostWeights(evictions=2, per_waiting=0, others=0)), kv_capacity_tokens=ROOM_TOKENS
        )
        prompt = range(1, num_prompt_blocks + 1)
        holder = serve(router, "a", *prompt).replica_id
        book_waiting(router, holder, waiting_tokens)
        decision, _ = router.choose(make_request("b", *prompt), now=0)
        assert decision.reason is expected
        assert (decision.replica_id == holder) is (expected is Reason.PREFIX)

    def test_paced_conversations_with_one_system_prompt_spread(self) -> None:
        """Nothing is outstanding at any decision, and one replica has the prompt cached that all share.

        By pending work alone, all of them went to the replica that saw the system prompt first.
        """
        router = make_router(num_replicas=2)
        system_prompt = range(1, 20)
        conversations_at: Counter[str] = Counter()
        for user in range(100, 140):
            for turn in range(4):
                decision = serve(router, f"{user}-{turn}", *system_prompt, *range(user * 100, user * 100 + 2 + turn))
                conversations_at[decision.replica_id] += turn == 0
        assert min(conversations_at.values()) >= 15

    def test_short_questions_after_one_system_prompt_spread(self) -> None:
        """Too short to fill a block, they have the same key; still no replica gets all of them."""
        router = make_router(num_replicas=2)
        chosen = Counter(serve(router, str(number), *range(1, 20)).replica_id for number in range(200))
        assert min(chosen.values()) >= 50

    def test_a_conversation_stays_where_it_started(self) -> None:
        """Every later turn follows the first, through all of that spreading."""
        router = make_router(num_replicas=2, kv_capacity_tokens=10_000)
        home: dict[int, str] = {}
        for turn in range(5):
            for user in range(100, 120):
                prompt = (1, 2, 3, 4, *range(user * 100, user * 100 + 2 + turn))
                decision = serve(router, f"{user}-{turn}", *prompt)
                assert home.setdefault(user, decision.replica_id) == decision.replica_id

    def test_a_session_without_a_key_returns_to_its_place(self) -> None:
        """Prompts that cannot be looked at, with a session's name, go where the session went, unless that is busy."""
        router = make_router(num_replicas=4, kv_capacity_tokens=ROOM_TOKENS)
        first = router.choose(make_request("1", num_prompt_tokens=100, session_id="ann"), now=0).decision.replica_id
        router.on_finished(make_request("1").request_id, now=0)
        for number in range(2, 10):
            request = make_request(str(number), num_prompt_tokens=100, session_id="ann")
            assert router.choose(request, now=0).decision.replica_id == first
            router.on_finished(request.request_id, now=0)
        book_waiting(router, first, 500)
        request = make_request("busy", num_prompt_tokens=100, session_id="ann")
        assert router.choose(request, now=0).decision.replica_id != first

    def test_a_session_starts_at_its_place_on_the_ring(self) -> None:
        """Two prompts that share nothing but the session's name."""
        router = make_router(num_replicas=8, kv_capacity_tokens=ROOM_TOKENS)
        one = router.choose(make_request("1", 1, 2, session_id="ann"), now=0).decision
        router.on_finished(one.request_id, now=0)
        other = router.choose(make_request("2", 8, 9, session_id="ann"), now=0).decision
        assert one.replica_id == other.replica_id
        assert one.reason is other.reason is Reason.RING

    @pytest.mark.parametrize(("num_holders", "num_replicas"), [(10, 30), (16, 26)])
    def test_of_many_holders_the_least_loaded_are_looked_at(self, num_holders: int, num_replicas: int) -> None:
        """More replicas have the prompt cached than are examined, and all but the last one that came to it have much to
        do.

        Those without the prompt are idle, and cost more all the same. Few of many are sorted, many are looked for.
        """
        router = make_router(num_replicas=num_replicas, kv_capacity_tokens=ROOM_TOKENS)
        prompt = make_request("asked", *range(1, 101))
        holders = [replica.replica_id for replica in router.cluster.replicas[:num_holders]]
        for holder in holders:
            router.cluster.holders.insert(holder, prompt.block_hashes)
            book_waiting(router, holder, 30 if holder == holders[-1] else 5000, request_id=f"waiting at {holder}")
        assert router.choose(prompt, now=0).decision.replica_id == holders[-1]

    @pytest.mark.parametrize("num_system_holders", [2, 20, 40, 60])
    @given(
        pending=st.lists(st.integers(0, 60), min_size=60, max_size=60),
        ranks=st.permutations(range(60)),
        conversation_holders=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    )
    @settings(max_examples=20)
    def test_in_a_large_cluster_it_finds_the_cheapest_too(
        self, num_system_holders: int, pending: list[int], ranks: list[int], conversation_holders: set[int]
    ) -> None:
        """It examines 27 of 60 replicas, of which many have a system prompt cached, and a few a conversation."""
        router = make_router(num_replicas=60, kv_capacity_tokens=1000)
        members, holders = router.cluster.replicas, router.cluster.holders
        system, conversation = tuple(range(1, 9)), tuple(range(1, 17))
        system_holders = ranks[:num_system_holders]
        for rank in system_holders:
            holders.insert(members[rank].replica_id, make_request("", *system, 500 + rank).block_hashes)
        for rank in conversation_holders:
            holders.insert(members[rank].replica_id, make_request("", *conversation).block_hashes)
        for replica, pending_tokens in zip(members, pending, strict=True):
            book_waiting(router, replica.replica_id, pending_tokens, request_id=f"busy-{replica.rank}")
        weights = CostWeights()
        recent_shares = [(tokens + 1) / 1000 for tokens in pending]  # of the cache; an answer counts one token
        mean_share = sum(recent_shares) / 60

        def cost_s(replica: Replica) -> float:
            """Cost of 69 prompt tokens: 64 are the conversation's, and 32 of these the system prompt's."""
            rank = replica.rank
            cached_tokens = 64 if rank in conversation_holders else 32 if rank in system_holders else 0
            missing_tokens = max(0, 32 - cached_tokens)
            turnover = (recent_shares[rank] + PRIOR_WORK_SHARE) / (mean_share + PRIOR_WORK_SHARE)
            weight = 1 + weights.evictions * math.sqrt(turnover) + weights.per_waiting * 1
            weighted_tokens = weight * (69 - cached_tokens - missing_tokens) + weights.shared * missing_tokens
            slowdown_s = FIRST_GUESS_TOKENS * (0.001 + 0.001 + 0.000_001 * (69 + FIRST_GUESS_TOKENS / 2))
            return (pending[rank] + weighted_tokens) / 1000 + weights.others * slowdown_s

        decision = router.choose(make_request("next", *conversation, 99), now=0).decision
        chosen = next(each for each in members if each.replica_id == decision.replica_id)
        assert cost_s(chosen) <= min(map(cost_s, members)) + weights.tie_s

    def test_without_a_key_the_least_loaded_is_taken(self) -> None:
        """A body that cannot be tokenised is still balanced."""
        router = make_router(num_replicas=2)
        busy = router.choose(make_request("busy", num_prompt_tokens=500), now=0).decision
        other = router.choose(make_request("other"), now=0).decision
        assert busy.reason is other.reason is Reason.NO_KEY
        assert busy.replica_id != other.replica_id

    def test_the_replacement_of_a_rank_inherits_its_arcs(self) -> None:
        """A new process of the same rank gets the same cold keys, though it has another id."""
        before, after = make_router(num_replicas=3), make_router(num_replicas=3)
        after.set_replicas([make_replica(0), make_replica(1, generation=1), make_replica(2)])
        for key in range(50):
            rank_before = rank_of(before, before.choose(make_request(str(key), key), now=0).decision.replica_id)
            rank_after = rank_of(after, after.choose(make_request(str(key), key), now=0).decision.replica_id)
            assert rank_before == rank_after
            before.on_finished(make_request(str(key)).request_id, now=0)
            after.on_finished(make_request(str(key)).request_id, now=0)


def serve(router: Router, request_id: str, *blocks: int) -> RoutingDecision:
    """A request from its decision to its end: alone at its replica, which takes as long as the model says."""
    request = make_request(request_id, *blocks)
    decision = router.choose(request, now=0).decision
    uncached_tokens = request.num_prompt_tokens - decision.believed_cached_tokens
    router.on_prefilled(
        request.request_id,
        prompt_tokens=request.num_prompt_tokens,
        cached_tokens=decision.believed_cached_tokens,
        now=MODEL.prefill_s(uncached_tokens, num_before=0) + 1.5 * MODEL.step_s,
    )
    router.on_finished(request.request_id, now=0)
    router.check_integrity()
    return decision


def rank_of(router: Router, replica_id: ReplicaId) -> int:
    """The rank behind an id."""
    return next(replica.rank for replica in router.cluster.eligible if replica.replica_id == replica_id)

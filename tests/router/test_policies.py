"""Policies by name, the simplest of them, and what is special to ours."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router.ring_prior import MAX_SHARE

from router import Reason, Replica, ReplicaId, Reservation, Router, RoutingDecision, UnknownPolicyError
from router.policies import make_policy
from tests.builders import OPTIONS, make_replica, make_request, make_router


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
    """The cost rule, with weight 2 when nobody waits."""

    def test_a_returning_conversation_goes_where_it_was(self) -> None:
        """The first turn is placed by the ring, the second by what is held."""
        router = make_router(num_replicas=4)
        first, _ = router.choose(make_request("turn-1", 1, 2), now=0)
        router.on_finished(first.request_id, now=0)
        second, _ = router.choose(make_request("turn-2", 1, 2, 3), now=1)
        # Never prefilled, so nothing is held: the ring alone has to find the place again.
        assert (first.reason, second.reason) == (Reason.RING, Reason.RING)
        assert second.replica_id == first.replica_id
        router.on_prefilled(second.request_id, prompt_tokens=13, cached_tokens=0, now=2)
        router.on_finished(second.request_id, now=0)
        third, _ = router.choose(make_request("turn-3", 1, 2, 3, 4), now=3)
        assert third.reason is Reason.PREFIX
        assert third.replica_id == first.replica_id
        assert third.believed_cached_tokens == 12

    def test_a_prefix_that_everybody_holds_decides_nothing(self) -> None:
        """A common system prompt must not send every user to the replica that saw it first."""
        router = make_router(num_replicas=4)
        for replica in router.cluster.replicas:
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
            # Weight 3. Cost at the holder: waiting + 3 * 1 token; elsewhere: 3 * (4 * blocks + 1).
            (24, 10, Reason.PREFIX),  # 24 + 3 < 3 * 41
            (48, 4, Reason.PREFIX),  # 48 + 3 = 3 * 17: a tie goes in ring order, and the ring placed the first
            (64, 2, Reason.SPILL),  # 64 + 3 > 3 * 9
        ],
    )
    def test_waiting_is_weighed_against_what_is_saved(
        self, waiting_tokens: int, num_prompt_blocks: int, expected: Reason
    ) -> None:
        """A held prefix is worth its tokens times the weight, and no more."""
        router = make_router(num_replicas=2)
        options = replace(OPTIONS, weight_base=3, weight_per_waiting=0)
        router.policy = make_policy("prefix_affinity", options, Random(0))
        prompt = make_request("a", *range(1, num_prompt_blocks + 1))
        holder = router.choose(prompt, now=0).decision.replica_id
        router.on_prefilled(prompt.request_id, prompt_tokens=prompt.num_prompt_tokens, cached_tokens=0, now=0)
        router.on_finished(prompt.request_id, now=0)
        book_waiting(router, holder, waiting_tokens)
        decision, _ = router.choose(make_request("b", *range(1, num_prompt_blocks + 1)), now=1)
        assert decision.reason is expected
        assert (decision.replica_id == holder) is (expected is Reason.PREFIX)

    def test_paced_conversations_with_one_system_prompt_spread(self) -> None:
        """Nothing is outstanding at any decision, and one replica holds the prompt that all share.

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
        """Too short to fill a block, they have the same key; still nobody gets all of them."""
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

    def test_a_conversation_starts_within_the_bound_and_may_stay_above_it(self) -> None:
        """The holder of the shared prompt has 200 recent tokens, the other none: mean 100, bound 164."""
        router = make_router(num_replicas=2)
        holder = serve(router, "first", 1, 2, 3, 10, 11).replica_id
        book_waiting(router, holder, 200)
        router.on_finished(make_request("waiting-200").request_id, now=0)
        new = router.choose(make_request("new", 1, 2, 3, 20), now=0).decision
        assert (new.reason, new.best_cached_tokens) == (Reason.SPILL, 12)
        assert new.replica_id != holder
        returning = router.choose(make_request("returning", 1, 2, 3, 10, 11, 12), now=0).decision
        assert (returning.reason, returning.replica_id) == (Reason.PREFIX, holder)

    def test_a_conversation_starts_where_less_was_done_lately(self) -> None:
        """Both are idle, and the owner of the key has just done 200 tokens: a twentieth of that outweighs the ring."""
        for recent_weight, expected in ((0.0, Reason.RING), (0.05, Reason.SPILL)):
            router = make_router(num_replicas=2)
            options = replace(OPTIONS, recent_weight=recent_weight, load_margin_tokens=10_000)
            router.policy = make_policy("prefix_affinity", options, Random(0))
            owner = serve(router, "first", 5).replica_id
            router.on_caches_reset()
            book_waiting(router, owner, 200)
            router.on_finished(make_request("waiting-200").request_id, now=0)
            assert router.choose(make_request("again", 5), now=0).decision.reason is expected

    def test_near_ties_go_by_the_ring(self) -> None:
        """A replica whose cost is higher by less than the share of a mean request is as good as an idle one."""
        for tie_share, expected in ((0.0, Reason.SPILL), (2.0, Reason.RING)):
            router = make_router(num_replicas=2)
            router.policy = make_policy("prefix_affinity", replace(OPTIONS, tie_share=tie_share), Random(0))
            owner = serve(router, "first", 5).replica_id
            router.on_caches_reset()
            book_waiting(router, owner, 2)
            assert router.choose(make_request("again", 5), now=0).decision.reason is expected

    @pytest.mark.parametrize(("cached_tokens", "is_trusted"), [(0, False), (40, True)])
    def test_the_rings_owner_is_trusted_as_far_as_it_proved_true(self, cached_tokens: int, is_trusted: bool) -> None:
        """Where it held, unknown to us, what others had sent there, the next prompt waits for it."""
        router = make_router(num_replicas=2)
        request = make_request("first", *range(1, 11))
        owner = router.choose(request, now=0).decision
        assert owner.reason is Reason.RING
        router.on_prefilled(request.request_id, prompt_tokens=41, cached_tokens=cached_tokens, now=0)
        router.on_finished(request.request_id, now=0)
        assert router.cluster.ring_prior.share == (MAX_SHARE if is_trusted else 0)
        router.on_caches_reset()
        book_waiting(router, owner.replica_id, 10)
        again = router.choose(make_request("again", *range(1, 11)), now=0).decision
        assert (again.replica_id == owner.replica_id) is is_trusted

    def test_a_prefix_narrows_to_the_first_on_the_ring(self) -> None:
        """All four hold it, and hardly anybody wants it any more: all who start with it go to one of them."""
        router = make_router(num_replicas=4, kv_capacity_tokens=10_000)
        for replica in router.cluster.replicas:
            for user in (901, 902):
                blocks = make_request("", *range(1, 20), user + replica.rank * 10).block_hashes
                router.cluster.holders.insert(replica.replica_id, blocks)
        serve(router, "elsewhere", *range(2000, 2200))
        chosen = {serve(router, str(user), *range(1, 20), user).replica_id for user in range(3000, 3004)}
        assert len(chosen) == 1

    @pytest.mark.parametrize(
        ("num_blocks", "is_kept"),
        [
            (99, False),  # 397 tokens are less than a tenth of 4,000 ...
            (100, True),  # ... and 401 are more
        ],
    )
    def test_giants_are_kept_together(self, num_blocks: int, *, is_kept: bool) -> None:
        """On three of eight replicas; whatever is smaller spreads over all."""
        router = make_giants_router()
        chosen = {serve(router, str(user), *range(user, user + num_blocks)).replica_id for user in giants(40)}
        assert len(chosen) == (3 if is_kept else 8)

    @pytest.mark.parametrize(
        ("waiting_tokens", "is_home"),
        [
            # Cost at home: waiting + 2 * 401, elsewhere: 3 * 401.
            (400, True),
            (402, False),
        ],
    )
    def test_a_giant_waits_for_as_long_as_it_computes_itself(self, waiting_tokens: int, *, is_home: bool) -> None:
        """With more tokens before it at each of the giants' replicas, it goes elsewhere."""
        router = make_giants_router()
        home = {serve(router, str(user), *range(user, user + 100)).replica_id for user in giants(40)}
        for number, replica_id in enumerate(sorted(home)):
            request = make_request(f"waiting-{number}", num_prompt_tokens=waiting_tokens)
            reservation = Reservation(request, replica_id, 0, is_computed=True, pending_tokens=waiting_tokens)
            router.on_reserved(reservation, now=0)
        decision = router.choose(make_request("giant", *range(100)), now=0).decision
        assert (decision.replica_id in home) is is_home

    def test_a_giant_that_is_held_returns_as_others_do(self) -> None:
        """Little of it is left to compute, so it is none any more."""
        router = make_giants_router()
        holder = router.cluster.members[0].replica_id
        for replica in router.cluster.members:
            router.cluster.holders.insert(replica.replica_id, make_request("", replica.rank).block_hashes)
            router.cluster.holders.insert(holder, make_request("", *range(100, 300)).block_hashes)
        assert serve(router, "again", *range(100, 300), 7).replica_id == holder

    def test_where_all_prompts_are_long_there_are_no_giants(self) -> None:
        """Each is more than a tenth of a cache, and none much more than the mean."""
        router = make_giants_router(mean_tokens=200)
        chosen = {serve(router, str(user), *range(user, user + 100)).replica_id for user in giants(40)}
        assert len(chosen) == 8

    def test_a_session_without_a_key_returns_to_its_place(self) -> None:
        """Prompts that cannot be looked at, with a session's name, go where the session went, unless that is busy."""
        router = make_router(num_replicas=4)
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
        router = make_router(num_replicas=8)
        one = router.choose(make_request("1", 1, 2, session_id="ann"), now=0).decision
        router.on_finished(one.request_id, now=0)
        other = router.choose(make_request("2", 8, 9, session_id="ann"), now=0).decision
        assert one.replica_id == other.replica_id
        assert one.reason is other.reason is Reason.RING

    @given(
        pending=st.lists(st.integers(0, 60), min_size=60, max_size=60),
        system_holders=st.sets(st.integers(0, 59), min_size=2),
        conversation_holders=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    )
    @settings(max_examples=40)
    def test_in_a_large_cluster_it_finds_the_cheapest_too(
        self, pending: list[int], system_holders: set[int], conversation_holders: set[int]
    ) -> None:
        """Of 60 replicas, of which many hold a system prompt and a few a conversation, it looks at 27."""
        router = make_router(num_replicas=60, kv_capacity_tokens=1000)
        members, holders = router.cluster.members, router.cluster.holders
        system, conversation = tuple(range(1, 9)), tuple(range(1, 17))
        for rank in system_holders:
            holders.insert(members[rank].replica_id, make_request("", *system, 500 + rank).block_hashes)
        for rank in conversation_holders:
            holders.insert(members[rank].replica_id, make_request("", *conversation).block_hashes)
        for replica, pending_tokens in zip(members, pending, strict=True):
            request = make_request(f"busy-{replica.rank}", num_prompt_tokens=pending_tokens)
            reservation = Reservation(request, replica.replica_id, 0, is_computed=True, pending_tokens=pending_tokens)
            router.on_reserved(reservation, now=0)
        router.prepare(now=0)
        request, cluster = make_request("next", *conversation, 99), router.cluster
        weight_per_token = OPTIONS.weight_per_waiting * cluster.mean_waiting / cluster.mean_request_tokens

        def cost(replica: Replica) -> float:
            remaining_tokens = cluster.remaining_tokens(replica)
            uncached_tokens = request.num_prompt_tokens - cluster.cached_tokens(replica, request)
            weight = OPTIONS.weight_base + weight_per_token * (remaining_tokens + uncached_tokens)
            return remaining_tokens + weight * uncached_tokens

        chosen = router.policy.choose(request, cluster).replica
        assert cost(chosen) == pytest.approx(min(map(cost, members)))

    def test_where_all_looked_at_are_out_of_bound_the_one_with_least_recent_work_is_taken(self) -> None:
        """39 idle ones have all just worked; the fortieth has something pending, and looks busiest."""
        router = make_router(num_replicas=40)
        *worked, busy = router.cluster.members
        book_waiting(router, busy.replica_id, 1)
        for number, replica in enumerate(worked):
            request = make_request(f"done-{number}", num_prompt_tokens=100)
            reservation = Reservation(request, replica.replica_id, 0, is_computed=True, pending_tokens=100)
            router.on_reserved(reservation, now=0)
            router.on_finished(request.request_id, now=0)
        options = replace(OPTIONS, load_factor=1.0, load_margin_tokens=0)
        router.policy = make_policy("prefix_affinity", options, Random(0))
        assert router.choose(make_request("next", 1, 2), now=0).decision.replica_id == busy.replica_id

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


def make_giants_router(*, mean_tokens: int = 10) -> Router:
    """Eight replicas of 4,000 tokens, and so many requests before that giants do not change the mean much."""
    router = make_router(num_replicas=8, kv_capacity_tokens=4000)
    router.policy = make_policy("prefix_affinity", replace(OPTIONS, giant_share=0.1), Random(0))
    for number in range(8000):
        request = make_request(f"before-{number}", num_prompt_tokens=mean_tokens)
        replica_id = router.cluster.members[number % 8].replica_id
        reservation = Reservation(request, replica_id, 0, is_computed=True, pending_tokens=mean_tokens)
        router.on_reserved(reservation, now=0)
        router.on_finished(request.request_id, now=0)
    return router


def giants(num: int) -> range:
    """The first blocks of so many prompts that share nothing."""
    return range(1000, 1000 + num * 1000, 1000)


def serve(router: Router, request_id: str, *blocks: int) -> RoutingDecision:
    """A request from its decision to its end, at once."""
    request = make_request(request_id, *blocks)
    decision = router.choose(request, now=0).decision
    router.on_prefilled(
        request.request_id,
        prompt_tokens=request.num_prompt_tokens,
        cached_tokens=decision.believed_cached_tokens,
        now=0,
    )
    router.on_finished(request.request_id, now=0)
    router.check_integrity()
    return decision


def book_waiting(router: Router, replica_id: ReplicaId, pending_tokens: int) -> None:
    """Make a replica busy with a request of unknown prompt."""
    waiting = make_request(f"waiting-{pending_tokens}", num_prompt_tokens=pending_tokens)
    router.on_reserved(
        Reservation(waiting, replica_id, num_held_blocks=0, is_computed=True, pending_tokens=pending_tokens), now=0
    )


def rank_of(router: Router, replica_id: ReplicaId) -> int:
    """The rank behind an id."""
    return next(replica.rank for replica in router.cluster.replicas if replica.replica_id == replica_id)

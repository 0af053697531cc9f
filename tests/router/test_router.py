"""The router as its drivers use it."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import EngineLoad, NoReplicasError, ReplicaId, RequestId, Reservation, Router, RouteRequest
from router.policies import POLICY_NAMES, make_policy
from tests.builders import BLOCK_SIZE, make_replica, make_request, make_router, prefixes_of, set_speed
from tests.operations import num_operations


def test_without_replicas_it_says_so() -> None:
    """Nothing is booked."""
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
        router.on_prefilled(RequestId("turn-1"), prompt_tokens=9, cached_tokens=0, now=0.02)
        router.on_finished(RequestId("turn-1"), now=1)
    second, _ = peer.choose(make_request("turn-2", 1, 2, 3), now=2)
    assert second.replica_id == decision.replica_id
    assert second.believed_cached_tokens == 8


def test_news_that_take_long_are_allowed_for() -> None:
    """Each is told of 1 s later: what was sent a second ago is computed, though nothing was heard of it yet."""
    router = make_router(num_replicas=1)
    for number in range(500):
        decision, _ = router.choose(make_request(str(number), number), now=10 * number)
        router.on_arrived(decision.request_id, decision.replica_id, now=10 * number + 1)
        router.on_prefilled(decision.request_id, prompt_tokens=5, cached_tokens=0, now=10 * number + 1.001)
        router.on_finished(decision.request_id, now=10 * number + 2)
    _, reservation = router.choose(make_request("next", *range(1000, 1002)), now=9000)
    (replica,) = router.cluster.replicas
    router.prepare(now=9000)
    assert router.cluster.remaining_tokens(replica) == pytest.approx(reservation.pending_tokens, rel=0.01)
    router.prepare(now=9001)
    assert router.cluster.remaining_tokens(replica) == 0


def test_our_own_broadcast_coming_back_changes_nothing() -> None:
    """A router is among the receivers of its own broadcast."""
    router = make_router()
    decision, reservation = router.choose(make_request("a", 1, 2), now=0)
    router.on_reserved(reservation, now=0)
    replica = next(each for each in router.cluster.eligible if each.replica_id == decision.replica_id)
    assert router.cluster.load_of(replica).pending_tokens == 9


def test_an_aborted_request_leaves_no_belief() -> None:
    """It ended before its first token, so nothing of it is cached."""
    router = make_router()
    decision, _ = router.choose(make_request("a", 1, 2), now=0)
    router.on_finished(decision.request_id, now=0)
    assert router.choose(make_request("b", 1, 2, 3), now=1).decision.best_cached_tokens == 0


def test_a_request_that_never_arrives_is_not_counted_for_long() -> None:
    """Its replica does not name it 10 s later: the reservation is released, and the estimate corrected."""
    router = make_router(ttl_s=60)
    decision, _ = router.choose(make_request("lost", 1, 2), now=0)
    for now, num_requests in ((9, 1), (10, 0)):
        router.on_outstanding(decision.replica_id, {}, now=now)
        assert sum(router.cluster.load_of(replica).num_requests for replica in router.cluster.replicas) == num_requests
    assert router.choose(make_request("next", 1, 2, 3), now=10).decision.best_cached_tokens == 0


def test_a_request_of_a_replica_that_does_not_speak_is_not_counted_for_ever() -> None:
    """Neither names it nor anything else for 60 s."""
    router = make_router(ttl_s=60)
    router.choose(make_request("lost", 1, 2), now=0)
    assert router.expire(now=59) == 0
    assert router.expire(now=60) == 1


def test_a_lost_receipt_is_not_counted_for_ever() -> None:
    """It arrived, and nothing was heard of it for 60 s."""
    router = make_router(ttl_s=60)
    decision, _ = router.choose(make_request("silent", 1, 2), now=0)
    router.on_arrived(RequestId("silent"), decision.replica_id, now=1)
    assert router.expire(now=60) == 0
    assert router.expire(now=61) == 1


def test_belief_follows_an_engine_that_evicts_earlier() -> None:
    """It had lost two of three blocks that were estimated to be cached: the two that were used longest ago go with
    them.
    """
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.eligible
    for number, prompt in enumerate([(7, 8), (1, 2, 3)]):
        answer(router, make_request(str(number), *prompt), cached_tokens=0)
    answer(router, make_request("again", 1, 2, 3, 4), cached_tokens=4)
    assert router.cluster.cached_tokens(replica, make_request("old", 7, 8)) == 0
    assert router.cluster.cached_tokens(replica, make_request("new", 1, 2, 3, 4, 5)) == 16


def test_what_ended_is_evicted_before_what_is_in_use() -> None:
    """Ten blocks fit. Two requests are under way for long, a third one ends, and then others come."""
    router = make_router(num_replicas=1, kv_capacity_tokens=10 * 4)
    (replica,) = router.cluster.eligible
    for name, blocks, cached_tokens in (("first", (1, 2), 0), ("second", (1, 3), 4), ("third", (4, 5), 0)):
        router.choose(make_request(name, *blocks), now=0)
        router.on_prefilled(RequestId(name), prompt_tokens=9, cached_tokens=cached_tokens, now=0)
    router.on_finished(RequestId("third"), now=1)
    for number in range(7):
        router.choose(make_request(f"new-{number}", 10 + number), now=2)
        router.on_prefilled(RequestId(f"new-{number}"), prompt_tokens=5, cached_tokens=0, now=2)
    cached = [
        router.cluster.cached_tokens(replica, make_request("x", *blocks, 9)) for blocks in ((1, 2), (1, 3), (4, 5))
    ]
    assert cached == [8, 8, 0]
    router.check_integrity()


def test_a_promise_outlives_another_ones_abort() -> None:
    """Two are sent with the same prompt, and one is given up: the other will still be computed."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.eligible
    for name in ("stays", "goes"):
        router.choose(make_request(name, 1, 2), now=0)
    router.on_finished(RequestId("goes"), now=1)
    assert router.cluster.cached_tokens(replica, make_request("next", 1, 2, 3)) == 8
    router.on_finished(RequestId("stays"), now=1)
    assert router.cluster.cached_tokens(replica, make_request("next", 1, 2, 3)) == 0


def test_belief_is_not_corrected_by_a_request_that_overtook_its_prefix() -> None:
    """Two turns sent together: the second found nothing, because the first was not computed yet, not evicted."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.eligible
    answer(router, make_request("old", 7, 8), cached_tokens=0)
    for request_id in ("first", "second"):
        router.choose(make_request(request_id, 1, 2, 3), now=0)
    for request_id in ("first", "second"):
        router.on_prefilled(RequestId(request_id), prompt_tokens=13, cached_tokens=0, now=1)
    assert router.cluster.cached_tokens(replica, make_request("", 7, 8)) == 8


def take_over(peer: Router, joining: Router, *, now: float) -> None:
    """All that the peer knows."""
    for replica in peer.cluster.replicas:
        state = peer.export(replica.replica_id, now=now)
        assert state is not None
        joining.adopt(state, now=now)


def answer(router: Router, request: RouteRequest, *, cached_tokens: int) -> None:
    """A request from its decision to its end, at once."""
    router.choose(request, now=0)
    router.on_prefilled(request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=cached_tokens, now=0)
    router.on_finished(request.request_id, now=0)
    router.check_integrity()


def test_a_cache_reset_forgets_every_prefix() -> None:
    """The load is kept, as it is still there."""
    router = make_router()
    decision, _ = router.choose(make_request("a", 1, 2), now=0)
    router.on_prefilled(decision.request_id, prompt_tokens=9, cached_tokens=0, now=0)
    router.on_caches_reset()
    assert router.choose(make_request("b", 1, 2, 3), now=1).decision.best_cached_tokens == 0
    assert sum(router.cluster.load_of(replica).num_requests for replica in router.cluster.eligible) == 2


def test_a_new_policy_keeps_load_and_beliefs() -> None:
    """Switching back and forth costs no affinity."""
    router = make_router(kv_capacity_tokens=4000)
    decision, _ = router.choose(make_request("a", *range(100)), now=0)
    router.on_prefilled(decision.request_id, prompt_tokens=401, cached_tokens=0, now=0.4)
    router.policy = make_policy("round_robin", Random(0))
    router.policy = make_policy("prefix_affinity", Random(0))
    assert router.cluster.load[decision.replica_id].num_running == 1
    again, _ = router.choose(make_request("b", *range(101)), now=1)
    assert (again.replica_id, again.believed_cached_tokens) == (decision.replica_id, 400)


def test_a_request_that_arrived_elsewhere_is_booked_there() -> None:
    """A connection failed: load and estimate move with the request, and the other replica is left alone for 2 s."""
    router = make_router(num_replicas=2)
    decision, _ = router.choose(make_request("moved", 1, 2), now=0)
    chosen, other = sorted(router.cluster.replicas, key=lambda each: each.replica_id != decision.replica_id)
    router.on_arrived(decision.request_id, other.replica_id, now=0)
    assert router.cluster.load_of(chosen).num_requests == 0
    assert router.cluster.load_of(other).pending_tokens == 9
    router.on_prefilled(decision.request_id, prompt_tokens=9, cached_tokens=0, now=0)
    router.on_finished(decision.request_id, now=0)
    assert router.cluster.cached_tokens(chosen, make_request("", 1, 2, 3)) == 0
    assert router.cluster.cached_tokens(other, make_request("", 1, 2, 3)) == 8
    for number, now in enumerate((0.5, 1.9)):
        assert router.choose(make_request(str(number), number + 7), now=now).decision.replica_id == other.replica_id
    assert router.health.exclusion(chosen.replica_id, now=2) is None


def test_a_replicas_own_list_ends_what_it_does_not_name() -> None:
    """A lost receipt is made up for by the next heartbeat; what has not arrived yet is not touched."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    for request_id in ("lost", "there", "on its way"):
        router.choose(make_request(request_id, 1), now=0)
    for request_id in ("lost", "there"):
        router.on_arrived(RequestId(request_id), replica.replica_id, now=0)
    router.on_outstanding(replica.replica_id, {RequestId("there"): 0, RequestId("unheard of"): 0}, now=1)
    assert router.cluster.load.outstanding(RequestId("lost")) is None
    assert router.cluster.load_of(replica).num_requests == 2


def test_a_first_token_of_which_nothing_was_heard_is_made_up_for() -> None:
    """The replica's list says how much of each prompt had a first output: half of a list of prompts, then all of it."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    router.choose(make_request("a", 1, 2, num_prompts=2), now=0)
    load = router.cluster.load_of(replica)
    for prefilled_tokens, expected in ((0, (9, 2, 0)), (5, (4, 1, 1)), (5, (4, 1, 1)), (9, (0, 0, 2)), (18, (0, 0, 2))):
        router.on_outstanding(replica.replica_id, {RequestId("a"): prefilled_tokens}, now=1)
        assert (load.pending_tokens, load.num_waiting, load.num_running) == expected
        router.check_integrity()
    router.on_prefilled(RequestId("a"), prompt_tokens=9, cached_tokens=0, now=2)  # it was late, not lost
    assert (load.pending_tokens, load.num_waiting, load.num_running) == (0, 0, 2)


def test_several_answers_are_learned_as_their_mean() -> None:
    """Three answers had 120 tokens together; the next request for one is expected to get 40."""
    router = make_router(num_replicas=1)
    router.choose(make_request("a", 1, num_choices=3), now=0)
    router.on_prefilled(RequestId("a"), prompt_tokens=5, cached_tokens=0, now=0)
    router.on_finished(RequestId("a"), answer_tokens=120, now=1)
    assert router.cluster.answers.expected_tokens(make_request("b", 1)) == 40


def test_being_listed_is_a_sign_of_life() -> None:
    """A long answer outlives the reservation's TTL for as long as its replica names it."""
    router = make_router(num_replicas=1, ttl_s=60)
    (replica,) = router.cluster.replicas
    router.choose(make_request("long", 1), now=0)
    for now in range(10, 300, 10):
        router.on_outstanding(replica.replica_id, {RequestId("long"): 0}, now=now)
        assert router.expire(now=now) == 0
    assert router.expire(now=290 + 60) == 1


def test_a_replica_out_of_the_choice_gets_nothing_and_keeps_its_arcs() -> None:
    """Its keys go to their ring successors, all others stay, and it has them back as soon as it serves again."""
    router = make_router(num_replicas=4, kv_capacity_tokens=4000)
    requests = [make_request(f"{key}", key) for key in range(200)]

    def owners(now: float) -> list[ReplicaId]:
        router.prepare(now=now)
        cluster = router.cluster
        return [next(cluster.in_ring_order(each.block_hashes[0])).replica_id for each in requests]

    before = owners(0)
    dead = router.cluster.replicas[1]
    router.on_heard(dead.replica_id, is_serving=False, now=0)
    during = owners(1)
    assert dead.replica_id in before
    assert dead.replica_id not in during
    assert all(old == new for old, new in zip(before, during, strict=True) if old != dead.replica_id)
    assert len({new for old, new in zip(before, during, strict=True) if old == dead.replica_id}) == 3
    router.on_heard(dead.replica_id, is_serving=True, now=2)
    assert owners(2) == before
    replacement = make_replica(dead.rank, generation=1)
    router.set_replicas([*(each for each in router.cluster.replicas if each != dead), replacement])
    assert owners(3) == [replacement.replica_id if old == dead.replica_id else old for old in before]


def test_with_every_replica_out_of_the_choice_all_are_in_it() -> None:
    """When all fall silent at once, it is more likely we who hear nothing."""
    router = make_router(num_replicas=2)
    for replica in router.cluster.replicas:
        router.on_heard(replica.replica_id, is_serving=True, now=0)
    router.prepare(now=5)
    assert router.cluster.eligible == router.cluster.replicas
    router.on_heard(router.cluster.replicas[0].replica_id, is_serving=True, now=5)
    router.prepare(now=5)
    assert router.cluster.eligible == router.cluster.replicas[:1]


def test_a_joining_router_chooses_as_its_peer_does() -> None:
    """The peer's load, estimates and recent work are taken over."""
    peer, joining = make_router(num_replicas=4), make_router(num_replicas=4)
    for turn in range(8):
        answer(peer, make_request(f"turn-{turn}", turn // 2, *range(turn)), cached_tokens=0)
    peer.choose(make_request("outstanding", 1, 2), now=0)
    take_over(peer, joining, now=0)
    for number, blocks in enumerate(([0, 0], [1, 0, 1, 2, 3], [3, 0, 1], [9])):
        request = make_request(f"after-{number}", *blocks)
        assert joining.choose(request, now=0) == peer.choose(request, now=0)


def test_a_joining_router_knows_what_its_peer_has_learned() -> None:
    """How long answers become, what of them is found again, how fast and how full replicas are, how late news are."""
    peer, joining = (make_router(num_replicas=3, kv_capacity_tokens=4000) for _ in range(2))
    first, second, _ = (replica.replica_id for replica in peer.cluster.replicas)
    set_speed(peer, first, 0.5)
    peer.on_engine_load(second, EngineLoad(num_waiting=0, num_running=1, kv_used_tokens=3000, num_preempted=0))
    for number in range(12):
        request = make_request(f"{number}", number % 4, 5, session_id="ann" if number % 2 else "")
        _, reservation = peer.choose(request, now=0)
        peer.on_arrived(request.request_id, reservation.replica_id, now=0.25)
        peer.on_prefilled(request.request_id, prompt_tokens=9, cached_tokens=4, now=0.3)
        if number < 10:
            peer.on_finished(request.request_id, now=1, answer_tokens=100 * (number + 1))
        follow_up = Reservation(
            make_request(f"theirs-{number}", number % 4, 5, 6, 7),
            reservation.replica_id,
            num_held_blocks=2,
            is_computed=True,
            pending_tokens=9,
            answer_tokens=4,
        )
        peer.on_reserved(follow_up, now=1)
        peer.on_prefilled(follow_up.request.request_id, prompt_tokens=17, cached_tokens=8, now=1.1)
        peer.on_finished(follow_up.request.request_id, now=2, answer_tokens=7)
    take_over(peer, joining, now=2)
    ours, theirs = joining.cluster, peer.cluster
    assert theirs.continuations.share == ours.continuations.share < 0.5
    assert theirs.lateness.others_share == ours.lateness.others_share > 0
    assert theirs.lateness.delay_s == ours.lateness.delay_s > 0
    for replica in theirs.replicas:
        load, known = ours.load[replica.replica_id], theirs.load[replica.replica_id]
        assert ours.load.speed(replica.replica_id) == theirs.load.speed(replica.replica_id)
        assert (load.kv_tokens, load.engine) == (pytest.approx(known.kv_tokens), known.engine)
        assert ours.work_share(replica) == pytest.approx(theirs.work_share(replica))
        assert ours.mean_work_share == pytest.approx(theirs.mean_work_share)
    assert ours.load.total.running_answer_tokens == pytest.approx(theirs.load.total.running_answer_tokens)
    for number in range(40):
        session_id = ("", "ann", "bob")[number % 3]
        request = make_request(f"after-{number}", number % 5, *range(5, 5 + number % 4), session_id=session_id)
        assert ours.answers.expected_tokens(request) == theirs.answers.expected_tokens(request)
        for router in (peer, joining):
            router.prepare(now=2)
        assert joining.policy.choose(request, ours) == peer.policy.choose(request, theirs)
        assert [ours.cached(each, request) for each in ours.replicas] == [
            theirs.cached(each, request) for each in theirs.replicas
        ]


def test_a_peer_of_an_older_version_says_less() -> None:
    """Nothing of answers or engines, so these are expected as for any other request."""
    peer, joining = make_router(num_replicas=1), make_router(num_replicas=1)
    peer.choose(make_request("a", 1, 2, max_answer_tokens=50), now=0)
    state = peer.export(peer.cluster.replicas[0].replica_id, now=0)
    assert state is not None
    booked = tuple(replace(each, answer_tokens=None) for each in state.booked)
    joining.adopt(replace(state, booked=booked, learned=None, engine=None), now=0)
    assert joining.cluster.load.total.waiting_answer_tokens == 50
    joining.check_integrity()


def test_how_much_of_an_answer_is_found_again_is_learned_from_receipts() -> None:
    """Two blocks of answer, of which the next turn finds both; then a client that sends none of it back."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    of_two = 0.95 * (0.95 + 8)
    for now, found_tokens, share in ((0, 8, 1.0), (10, 0, of_two / (of_two + 8))):
        router.on_caches_reset()
        router.choose(make_request(f"turn-{now}", 1, 2), now=now)
        router.on_prefilled(RequestId(f"turn-{now}"), prompt_tokens=9, cached_tokens=0, now=now)
        router.on_finished(RequestId(f"turn-{now}"), now=now + 1, answer_tokens=8)
        # An answer's last token is never computed: 9 + 7 tokens are four blocks.
        assert router.cluster.holders.num_blocks(replica.replica_id) == 4
        request = make_request(f"next-{now}", 1, 2, 3, 4, 5)
        decision, reservation = router.choose(request, now=now + 2)
        assert (decision.believed_cached_tokens, reservation.answer_tokens) == (16, 8)
        router.on_prefilled(request.request_id, prompt_tokens=21, cached_tokens=8 + found_tokens, now=now + 3)
        assert router.cluster.continuations.share == pytest.approx(share)
        router.on_finished(request.request_id, now=now + 4)
        router.check_integrity()


@pytest.mark.parametrize(("answer_tokens", "num_blocks"), [(None, 2), (0, 2), (1, 2), (3, 2), (4, 3), (7, 3), (8, 4)])
def test_an_answer_is_cached_but_for_its_last_token(answer_tokens: int | None, num_blocks: int) -> None:
    """Which is never computed: after a prompt of 9 tokens, 8 are four blocks of 4, and 7 are three."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    router.choose(make_request("a", 1, 2), now=0)
    router.on_prefilled(RequestId("a"), prompt_tokens=9, cached_tokens=0, now=0)
    router.on_finished(RequestId("a"), now=1, answer_tokens=answer_tokens)
    assert router.cluster.holders.num_blocks(replica.replica_id) == num_blocks


def test_an_answer_whose_first_token_never_came_is_not_cached() -> None:
    """Its prompt is not cached either, whatever the replica says that it generated."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    router.choose(make_request("a", 1, 2), now=0)
    router.on_finished(RequestId("a"), now=1, answer_tokens=40)
    assert router.cluster.holders.num_blocks(replica.replica_id) == 0


def test_what_was_sent_before_one_joined_corrects_nothing() -> None:
    """When what it finds was used last is not known here, so what it does not find may be gone since any time."""
    peer, joining = make_router(num_replicas=1), make_router(num_replicas=1)
    (replica,) = peer.cluster.replicas
    for name, blocks in (("old", (7, 8)), ("turn-1", (1, 2, 3))):
        answer(peer, make_request(name, *blocks), cached_tokens=0)
    peer.choose(make_request("turn-2", 1, 2, 3, 4), now=0)
    take_over(peer, joining, now=0)
    for router, held_blocks in ((peer, 4), (joining, 6)):
        router.on_prefilled(RequestId("turn-2"), prompt_tokens=17, cached_tokens=0, now=1)
        assert router.cluster.holders.num_blocks(replica.replica_id) == held_blocks
    joining.check_integrity()


def test_an_engine_that_is_unknown_says_nothing() -> None:
    """It is gone, or not heard of yet."""
    router = make_router(num_replicas=1)
    router.on_engine_load(ReplicaId("gone"), EngineLoad(1, 1, 100, 0))
    assert all(router.cluster.load_of(each).engine is None for each in router.cluster.replicas)


def test_what_a_joining_router_saw_itself_stays_and_counts_as_newer() -> None:
    """The peer's estimate fills the room that is left."""
    peer, joining = (make_router(num_replicas=1, kv_capacity_tokens=16) for _ in range(2))
    (replica,) = joining.cluster.replicas
    answer(peer, make_request("theirs", 1, 2, 3), cached_tokens=0)
    answer(joining, make_request("ours", 5, 6), cached_tokens=0)
    take_over(peer, joining, now=0)
    assert joining.cluster.cached_tokens(replica, make_request("", 5, 6, 7)) == 8
    assert joining.cluster.cached_tokens(replica, make_request("", 1, 2, 3, 4)) == 8
    joining.check_integrity()


def test_a_state_of_replicas_unknown_here_is_ignored() -> None:
    """The peer saw a replica that is gone, or that we have not heard of yet."""
    peer, joining = make_router(num_replicas=2), make_router(num_replicas=1)
    for number in range(6):
        peer.choose(make_request(str(number), number), now=0)
    take_over(peer, joining, now=0)
    joining.check_integrity()
    known = peer.export(joining.cluster.replicas[0].replica_id, now=0)
    assert known is not None
    assert joining.cluster.load.num_reservations == len(known.booked) < 6
    assert joining.export(peer.cluster.replicas[1].replica_id, now=0) is None


def test_a_crowd_of_long_ago_is_forgotten() -> None:
    """Its prefix was for all four replicas; two hours later, it is for one again."""
    router = make_router(num_replicas=4)
    prefix = make_request("", 1, 2, 3).block_hashes
    for number in range(40):
        router.choose(make_request(str(number), 1, 2, 3, 100 + number), now=0)
    assert router.cluster.holders.match(prefix).steps[0].run.fan_out == 4
    for number in range(40):
        router.choose(make_request(f"later-{number}", 200 + number), now=7200)
    router.choose(make_request("again", 1, 2, 3, 300), now=7200)
    assert router.cluster.holders.match(prefix).steps[0].run.fan_out == 1
    router.check_integrity()


def test_a_crowd_of_long_ago_is_forgotten_whatever_comes_next() -> None:
    """Also when the first thing in two hours is a peer's state, with a request booked."""
    router, peer = make_router(num_replicas=1), make_router(num_replicas=1)
    for number in range(40):
        router.choose(make_request(str(number), 1, 2, 3, 100 + number), now=0)
    peer.choose(make_request("peer's", 7), now=7200)
    take_over(peer, router, now=7200)
    (step, *_) = router.cluster.holders.match(make_request("", 1, 2, 3).block_hashes).steps
    assert step.run.work < 1e-6


@pytest.mark.parametrize("is_exact", [False, True])
@pytest.mark.parametrize("is_prefilled", [False, True])
def test_an_end_costs_no_more_where_more_is_outstanding(*, is_exact: bool, is_prefilled: bool) -> None:
    """Otherwise, clients that open many requests and leave would delay everyone, by the square of their number."""

    def cost(num_others: int) -> int:
        router = make_router(num_replicas=1, kv_capacity_tokens=10**6)
        if is_exact:
            router.on_blocks_cleared(router.cluster.replicas[0].replica_id)
        for number in range(num_others):
            router.choose(make_request(f"other {number}", 1, 2, 10 + number), now=0)
        router.choose(make_request("one", 1, 2, 3), now=0)
        if is_prefilled:
            router.on_prefilled(RequestId("one"), prompt_tokens=13, cached_tokens=0, now=0)
        cost = num_operations(lambda: router.on_finished(RequestId("one"), now=1, answer_tokens=1))
        assert router.cluster.load.num_reservations == num_others
        router.check_integrity()
        return cost

    assert cost(300) <= 1.1 * cost(3)


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
        assert decision.replica_id in {replica.replica_id for replica in self.router.cluster.eligible}

    @rule(data=st.data(), prompt_tokens=st.integers(0, 40), cached_tokens=st.integers(0, 40))
    def prefill(self, data: st.DataObject, prompt_tokens: int, cached_tokens: int) -> None:
        """A first token of a request, known or not."""
        self.router.on_prefilled(
            self._some_id(data), prompt_tokens=prompt_tokens, cached_tokens=cached_tokens, now=self.now
        )

    @rule(data=st.data(), rank=st.integers(0, 3))
    def arrive(self, data: st.DataObject, rank: int) -> None:
        """A replica has it, perhaps another than chosen, perhaps one that is gone."""
        replica = make_replica(rank, generation=self.generation)
        self.router.on_arrived(self._some_id(data), replica.replica_id, now=self.now)

    @rule(data=st.data(), rank=st.integers(0, 3), prefilled_tokens=st.integers(0, 40))
    def outstanding(self, data: st.DataObject, rank: int, prefilled_tokens: int) -> None:
        """A replica's own list, of anything."""
        replica = make_replica(rank, generation=self.generation)
        self.router.on_outstanding(replica.replica_id, {self._some_id(data): prefilled_tokens}, now=self.now)

    @rule(rank=st.integers(0, 3), is_serving=st.booleans())
    def hear(self, rank: int, *, is_serving: bool) -> None:
        """A replica's heartbeat."""
        replica = make_replica(rank, generation=self.generation)
        self.router.on_heard(replica.replica_id, is_serving=is_serving, now=self.now)

    @rule()
    def restart(self) -> None:
        """A router joins with this one's state, and takes its place."""
        joining = make_router(num_replicas=0, ttl_s=10)
        joining.set_replicas(self.router.cluster.replicas)
        take_over(self.router, joining, now=self.now)
        for replica in self.router.cluster.replicas:
            ours, theirs = self.router.cluster.load_of(replica), joining.cluster.load_of(replica)
            assert (ours.pending_tokens, ours.num_waiting, ours.num_running, ours.engine) == (
                theirs.pending_tokens,
                theirs.num_waiting,
                theirs.num_running,
                theirs.engine,
            )
            assert theirs.kv_tokens == pytest.approx(ours.kv_tokens)
            assert prefixes_of(self.router.cluster.holders.export(replica.replica_id)) == prefixes_of(
                joining.cluster.holders.export(replica.replica_id)
            )
        self.router = joining

    @rule(data=st.data(), answer_tokens=st.none() | st.integers(0, 100))
    def finish(self, data: st.DataObject, answer_tokens: int | None) -> None:
        """An end, with or without word of the answer."""
        self.router.on_finished(self._some_id(data), now=self.now, answer_tokens=answer_tokens)

    @rule(rank=st.integers(0, 3), kv_used_tokens=st.integers(0, 500))
    def tell(self, rank: int, kv_used_tokens: int) -> None:
        """An engine's own numbers."""
        replica = make_replica(rank, generation=self.generation)
        self.router.on_engine_load(replica.replica_id, EngineLoad(0, 1, kv_used_tokens, num_preempted=0))

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
        self.router.policy = make_policy(name, Random(0))

    @invariant()
    def is_sound(self) -> None:
        """Whatever happened."""
        self.router.check_integrity()

    def teardown(self) -> None:
        """When everything has expired, nothing is outstanding anywhere."""
        self.router.expire(now=self.now + 100)
        for replica in self.router.cluster.replicas:
            assert self.router.cluster.load_of(replica).num_requests == 0
            assert self.router.cluster.load_of(replica).pending_tokens == 0

    def _some_id(self, data: st.DataObject) -> RequestId:
        return RequestId(str(data.draw(st.integers(0, self.num_requests + 1))))


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_replica_that_joins_is_asked_for_what_is_hot_on_its_stretch_of_the_ring() -> None:
    """What all want, it will have too; of what one or two do, only its share. Together, they have everything."""
    router = make_router(num_replicas=4)
    for number in range(40):
        first = number % 8
        request = make_request(f"{number}", 100 + first, 200 + first, 1000 + number)
        router.choose(request, now=0)
    hot = {prefix.block_hash: prefix for prefix in router.hot_prefixes(64)}
    rank_to_hashes = {rank: {each.block_hash for each in router.prefixes_for(rank, 64)} for rank in range(4)}
    for block_hash, prefix in hot.items():
        wanted_by = {rank for rank, hashes in rank_to_hashes.items() if block_hash in hashes}
        assert len(wanted_by) == min(prefix.fan_out, 4)
    assert {each.block_hash for each in router.prefixes_for(4, 64)} <= hot.keys()
    assert len(router.prefixes_for(4, 2)) <= 2


def test_orphaned_prompts_belong_where_they_would_begin() -> None:
    """There the next turn goes, once it has been warmed; without replicas nowhere."""
    router = make_router(num_replicas=3)
    prompts = [make_request(f"{number}", 1, 10 + number, 30 + number) for number in range(9)]
    places = router.places_of([each.block_hashes for each in prompts])
    assert max(Counter(places).values()) == 4, "a quarter more than the mean, and one more"
    for prompt, place in zip(prompts, places, strict=True):
        router.on_warmed(place, prompt.block_hashes)
        router.check_integrity()
    for number, place in enumerate(places):
        turn = make_request(f"next {number}", 1, 10 + number, 30 + number, 50 + number)
        decision = router.choose(turn, now=0).decision
        assert (decision.replica_id, decision.believed_cached_tokens) == (place, 3 * BLOCK_SIZE)
        router.on_finished(turn.request_id, now=0)
    router.on_warmed(ReplicaId("gone"), prompts[0].block_hashes)
    router.set_replicas(())
    with pytest.raises(NoReplicasError):
        router.places_of([prompts[0].block_hashes])


def test_an_exact_replica_goes_by_its_engines_events_not_by_its_word() -> None:
    """Its KV events say the same, in time."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    router.on_blocks_cleared(replica.replica_id)
    prompt = make_request("a", 1, 2)
    router.on_warmed(replica.replica_id, prompt.block_hashes)
    assert router.cluster.holders.matched_blocks(replica.replica_id, prompt.block_hashes) == 0
    router.check_integrity()

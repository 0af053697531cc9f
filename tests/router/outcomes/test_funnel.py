"""Every prompt token is accounted for once, and charged to what it was lost to."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import CacheRecord, Funnel, Loss, ReplicaId, RequestId, Reservation, Router, RouteRequest
from router.outcomes.funnel import Known, make_record
from tests.builders import BLOCK_SIZE, make_replica, make_request, make_router

counts = st.integers(0, 12)
tokens = st.integers(0, 50)


def make_reservation(request: RouteRequest, *, num_held_blocks: int, is_computed: bool = True) -> Reservation:
    """A reservation at the first replica."""
    return Reservation(request, make_replica(0).replica_id, num_held_blocks, is_computed, pending_tokens=0)


@given(
    blocks=st.lists(st.integers(0, 3), max_size=12),
    num_prompt_tokens=tokens,
    num_held_blocks=counts,
    is_computed=st.booleans(),
    known=st.builds(Known, counts, counts, counts),
    prompt_tokens=tokens,
    cached_tokens=tokens,
)
def test_offered_is_reused_and_lost(
    blocks: list[int],
    num_prompt_tokens: int,
    num_held_blocks: int,
    is_computed: bool,
    known: Known,
    prompt_tokens: int,
    cached_tokens: int,
) -> None:
    """The sum is right for every estimate and every word of the engine."""
    request = make_request("a", *blocks, num_prompt_tokens=num_prompt_tokens)
    reservation = make_reservation(request, num_held_blocks=num_held_blocks, is_computed=is_computed)
    record = make_record(
        reservation, known, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens, block_size=BLOCK_SIZE
    )
    assert record.offered == prompt_tokens
    assert record.reused == min(prompt_tokens, cached_tokens)
    assert record.reused + sum(record.lost.values()) == record.offered
    assert record.reused <= record.selected <= record.reachable <= record.offered
    assert all(amount > 0 for amount in record.lost.values())
    funnel = Funnel()
    for _ in range(2):
        funnel.add(record)
    funnel.check_integrity()
    assert (funnel.prompts, funnel.offered, funnel.reused) == (2, 2 * record.offered, 2 * record.reused)


def test_each_level_pays_for_what_the_one_below_it_does_not_reach() -> None:
    """10 blocks and a token: 1 reused, 3 estimated to be cached there, 4 at the best replica, 6 gone, 8 ever seen."""
    reservation = make_reservation(make_request("a", *range(10)), num_held_blocks=3)
    known = Known(best_blocks=4, gone_blocks=6, seen_blocks=8)
    record = make_record(reservation, known, prompt_tokens=41, cached_tokens=4, block_size=BLOCK_SIZE)
    assert record.lost == {
        Loss.EVICTED: 2 * 4 + 2 * 4,
        Loss.SPILLED: 4,
        Loss.GONE: 2 * 4,
        Loss.NEW: 2 * 4,
        Loss.PARTIAL_BLOCK: 1,
    }
    assert (record.reachable, record.selected, record.reused) == (16, 12, 4)
    promised = make_record(
        replace(reservation, is_computed=False), known, prompt_tokens=41, cached_tokens=4, block_size=BLOCK_SIZE
    )
    assert promised.lost == record.lost | {Loss.UNCOMPUTED: 8, Loss.EVICTED: 8}


@pytest.mark.parametrize(
    ("request_of_four_blocks", "cause"),
    [
        (replace(make_request("a", 1, 2, 3, 4), block_hashes=()), Loss.NO_KEY),
        (replace(make_request("a", 1, 2, 3, 4), num_prompt_tokens=18), Loss.MISMATCH),
    ],
)
def test_beliefs_about_another_prompt_explain_nothing(request_of_four_blocks: RouteRequest, cause: Loss) -> None:
    """The engine has 17 tokens, and reused a block of them all the same."""
    reservation = make_reservation(request_of_four_blocks, num_held_blocks=4)
    record = make_record(reservation, Known(4, 4, 4), prompt_tokens=17, cached_tokens=4, block_size=BLOCK_SIZE)
    assert record.lost == {cause: 12, Loss.PARTIAL_BLOCK: 1}
    assert (record.reachable, record.selected, record.reused) == (4, 4, 4)


def test_funnels_are_merged_and_subtracted() -> None:
    """The sum of two prompts, one new and one reused but for a token, and the part after the first."""
    new = make_record(
        make_reservation(make_request("a", 1, 2), num_held_blocks=0),
        Known(0, 0, 0),
        prompt_tokens=9,
        cached_tokens=0,
        block_size=BLOCK_SIZE,
    )
    again = make_record(
        make_reservation(make_request("b", 1, 2), num_held_blocks=2),
        Known(2, 0, 2, shared_blocks=1),
        prompt_tokens=9,
        cached_tokens=8,
        block_size=BLOCK_SIZE,
    )
    total, earlier, later = Funnel(), Funnel(), Funnel()
    earlier.add(new)
    later.add(again)
    total.merge(earlier)
    total.merge(later)
    expected = Funnel(2, 18, 8, 8, 8, 4, 4, {Loss.NEW: 8, Loss.PARTIAL_BLOCK: 2})
    assert total == expected
    total.check_integrity()
    total.subtract(earlier)
    assert total == replace(later, lost={Loss.NEW: 0, Loss.PARTIAL_BLOCK: 1})
    total.check_integrity()


def serve(router: Router, request: RouteRequest, *, cached_tokens: int) -> tuple[ReplicaId, dict[Loss, int]]:
    """One request from its decision to its end; its engine has what the router thinks the prompt is."""
    decision = router.choose(request, now=0).decision
    record = prefill(router, request, cached_tokens=cached_tokens)
    assert record is not None
    assert record.replica_id == decision.replica_id
    router.on_finished(request.request_id, now=0)
    router.check_integrity()
    return record.replica_id, record.lost


def prefill(router: Router, request: RouteRequest, *, cached_tokens: int) -> CacheRecord | None:
    """Its first token."""
    return router.on_prefilled(
        request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=cached_tokens, now=0
    )


def empty_caches(router: Router) -> None:
    """On purpose."""
    router.on_caches_reset()


def replace_all(router: Router) -> None:
    """New processes replace them, after a moment without any."""
    router.set_replicas(())
    router.set_replicas(make_replica(rank, generation=1) for rank in range(2))


@pytest.mark.parametrize("lose", [empty_caches, replace_all])
def test_what_went_with_its_holder_is_neither_new_nor_evicted(lose: Callable[[Router], None]) -> None:
    """New, reused, gone, and once computed again not gone any more."""
    router = make_router()
    assert serve(router, make_request("first", 1, 2), cached_tokens=0)[1] == {Loss.NEW: 8, Loss.PARTIAL_BLOCK: 1}
    assert serve(router, make_request("again", 1, 2, 3), cached_tokens=8)[1] == {Loss.NEW: 4, Loss.PARTIAL_BLOCK: 1}
    lose(router)
    assert serve(router, make_request("after", 1, 2, 3, 4), cached_tokens=0)[1] == {
        Loss.GONE: 12,
        Loss.NEW: 4,
        Loss.PARTIAL_BLOCK: 1,
    }
    assert serve(router, make_request("last", 1, 2, 3, 4), cached_tokens=8)[1] == {
        Loss.EVICTED: 8,
        Loss.PARTIAL_BLOCK: 1,
    }


def test_what_made_room_is_evicted() -> None:
    """One replica of ten blocks, and twelve others in between."""
    router = make_router(num_replicas=1, kv_capacity_tokens=10 * BLOCK_SIZE)
    serve(router, make_request("first", 1, 2), cached_tokens=0)
    for number in range(3):
        serve(router, make_request(f"other-{number}", *range(10 + 4 * number, 14 + 4 * number)), cached_tokens=0)
    assert serve(router, make_request("again", 1, 2), cached_tokens=0)[1] == {Loss.EVICTED: 8, Loss.PARTIAL_BLOCK: 1}


def test_what_a_baseline_does_not_look_for_is_spilled() -> None:
    """Round robin goes to the other one."""
    router = make_router("round_robin")
    first, _ = serve(router, make_request("first", 1, 2), cached_tokens=0)
    second, lost = serve(router, make_request("again", 1, 2), cached_tokens=0)
    assert first != second
    assert lost == {Loss.SPILLED: 8, Loss.PARTIAL_BLOCK: 1}


def test_a_request_that_moved_is_charged_where_it_went() -> None:
    """HAProxy took it elsewhere: the blocks cached at its first replica are spilled."""
    router = make_router()
    holder, _ = serve(router, make_request("first", 1, 2), cached_tokens=0)
    request = make_request("moved", 1, 2)
    assert router.choose(request, now=0).decision.replica_id == holder
    other = next(each.replica_id for each in router.cluster.replicas if each.replica_id != holder)
    router.on_arrived(request.request_id, other, now=0)
    record = prefill(router, request, cached_tokens=0)
    assert record is not None
    assert (record.replica_id, record.lost) == (other, {Loss.SPILLED: 8, Loss.PARTIAL_BLOCK: 1})


def test_a_router_alone_counts_its_decisions() -> None:
    """So that the sum over routers counts each prompt once; each of a request's choices is one."""
    ours, peer = make_router(), make_router()
    request = make_request("a", 1, 2)
    peer.on_reserved(ours.choose(request, now=0).reservation, now=0)
    records = [prefill(router, request, cached_tokens=cached) for cached in (0, 8) for router in (ours, peer)]
    assert [record and record.lost for record in records] == [
        {Loss.NEW: 8, Loss.PARTIAL_BLOCK: 1},
        None,
        {Loss.PARTIAL_BLOCK: 1},
        None,
    ]
    ours.on_finished(RequestId("a"), now=0)
    assert prefill(ours, request, cached_tokens=0) is None
    ours.check_integrity()


def test_what_begins_other_prompts_is_shared() -> None:
    """From the second conversation on that goes on differently; a conversation's own next turn shares nothing."""
    router = make_router(num_replicas=1)

    def shared(name: str, *blocks: int, cached_tokens: int) -> tuple[int, int]:
        request = make_request(name, *blocks)
        router.choose(request, now=0)
        record = prefill(router, request, cached_tokens=cached_tokens)
        router.on_finished(request.request_id, now=0)
        assert record is not None
        return record.shared, record.shared_reused

    assert shared("first", 1, 2, 3, cached_tokens=0) == (0, 0)
    assert shared("its next turn", 1, 2, 3, 4, cached_tokens=12) == (0, 0)
    assert shared("second", 1, 2, 5, cached_tokens=4) == (8, 4)
    assert shared("third", 1, 2, 6, 7, cached_tokens=8) == (8, 8)
    assert shared("third's next turn", 1, 2, 6, 7, 8, cached_tokens=16) == (8, 8)
    assert shared("another", 9, cached_tokens=0) == (0, 0)


def test_what_many_prompts_are_but_for_their_last_words_is_shared() -> None:
    """One system prompt, and questions that fill no block."""
    router = make_router(num_replicas=1)
    shared = []
    for number in range(6):
        router.choose(make_request(f"{number}", 1, 2), now=0)
        record = prefill(router, make_request(f"{number}", 1, 2), cached_tokens=8 if number else 0)
        assert record is not None
        shared.append((record.shared, record.shared_reused))
        router.on_finished(record.request_id, now=0)
    assert shared == [(0, 0)] * 4 + [(8, 8)] * 2

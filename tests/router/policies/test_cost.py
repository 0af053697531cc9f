"""The cost of a placement, in seconds, and the consequences of each of its terms."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router import EngineLoad, Replica, ReplicaId, Router, RouteRequest
from router.policies.request_cost import CostWeights, RequestCost
from tests.builders import book_running, book_waiting, make_request, make_router, set_speed

WEIGHTS = CostWeights(evictions=3, per_waiting=2, shared=0.5, others=0.1, memory=1, session=0.5)
NO_EVICTIONS = CostWeights(evictions=0, per_waiting=0, shared=0.5, others=0.1, memory=1)
ROOM_TOKENS = 10**9
PROMPT = range(1, 101)
"""400 tokens in full blocks; a request for it has 401, and here it allows an answer of 100."""


def make_cluster(*, num_replicas: int = 2, kv_capacity_tokens: int = ROOM_TOKENS) -> Router:
    """A router for which all replicas have the model's speed."""
    router = make_router(num_replicas=num_replicas, kv_capacity_tokens=kv_capacity_tokens)
    for replica in router.cluster.replicas:
        set_speed(router, replica.replica_id, 1)
    return router


def costs(
    router: Router, request: RouteRequest, weights: CostWeights = WEIGHTS, *, owner: Replica | None = None
) -> list[float]:
    """The cost of a request now, at each replica, by rank."""
    router.prepare(now=0)
    cluster = router.cluster
    match = cluster.match(request.block_hashes)
    of_request = RequestCost(request, cluster, shared_blocks=match.shared_blocks, weights=weights, session_owner=owner)
    return [
        of_request.at(each, remaining_s=cluster.remaining_s(each), speed=cluster.load.speed(each.replica_id))
        for each in cluster.replicas
    ]


def nothing(_router: Router, _first: ReplicaId, _second: ReplicaId) -> None:
    """Both replicas are idle and empty."""


def first_holds_all(router: Router, first: ReplicaId, _second: ReplicaId) -> None:
    """The first replica has the prompt cached, but for the last token."""
    router.cluster.holders.insert(first, make_request("", *PROMPT).block_hashes)


def first_holds_what_is_shared(router: Router, first: ReplicaId, _second: ReplicaId) -> None:
    """The first replica has 200 tokens cached, after which two other prompts go on differently."""
    for last in (901, 902):
        router.cluster.holders.insert(first, make_request("", *PROMPT[:50], last).block_hashes)


def one_waits(router: Router, first: ReplicaId, _second: ReplicaId) -> None:
    """A request with 1,000 tokens waits at the first replica."""
    book_waiting(router, first, 1000)


def three_wait(router: Router, first: ReplicaId, _second: ReplicaId) -> None:
    """Requests with 1,000, 100 and 2,000 tokens wait at the first replica."""
    for name, pending_tokens in (("first", 1000), ("short", 100), ("long", 2000)):
        book_waiting(router, first, pending_tokens, request_id=name)


def ten_run(router: Router, first: ReplicaId, _second: ReplicaId) -> None:
    """Each with a prompt of 1,000 and an answer of 200 tokens, of which half is there."""
    for number in range(10):
        book_running(router, first, str(number), prompt_tokens=1000, answer_tokens=200)


def ten_run_in_one(router: Router, first: ReplicaId, _second: ReplicaId) -> None:
    """As many answers to one prompt, which one request asked for."""
    book_running(router, first, "one", prompt_tokens=1000, answer_tokens=200, choices=10)


def first_is_slow(router: Router, first: ReplicaId, _second: ReplicaId) -> None:
    """Half as fast as the model, with a prompt of 1,000 tokens waiting."""
    set_speed(router, first, 0.5)
    book_waiting(router, first, 1000)


# A token of the prompt is 1 ms, and its weight 1 + 3 where no sequence waits. A step is 10 ms, 1 ms more for each
# sequence, and 1 us for each token of their contexts; our own context is 401 + 50 tokens on average.
EXAMPLES = [
    (nothing, [4 * 0.401, 4 * 0.401]),
    (first_holds_all, [4 * 0.001, 4 * 0.401]),
    # A missing token of the shared prefix counts half, and a cached one nothing.
    (first_holds_what_is_shared, [4 * 0.201, 4 * 0.201 + 0.5 * 0.200]),
    # Half a waiting request a replica: 4 + 2 * 0.5. Where it waits, there will be two in each step of our answer.
    (one_waits, [1.0 + 5 * 0.401 + 0.1 * 100 * (0.001 + 0.001 + 0.000_451), 5 * 0.401]),
    # One and a half a replica: 4 + 2 * 1.5, and 1.5 / 2.5 of the 1.599 s by which one is longer than us does not count.
    (
        three_wait,
        [3.1 - 0.6 * 1.599 + 7 * 0.401 + 0.1 * 100 * 3 * (0.001 + 0.001 + 0.000_451), 7 * 0.401],
    ),
    # Our answer's steps are longer by 10 sequences and 11,000 tokens, theirs by ours; all ten wait for our prefill.
    (ten_run, [4 * 0.401 + 0.1 * (100 * (0.010 + 0.011 + 0.010 + 0.004_51) + 10 * 0.401), 4 * 0.401]),
    (ten_run_in_one, [4 * 0.401 + 0.1 * (100 * (0.010 + 0.011 + 0.010 + 0.004_51) + 10 * 0.401), 4 * 0.401]),
    (first_is_slow, [2 * (1.0 + 5 * 0.401 + 0.1 * 100 * (0.001 + 0.001 + 0.000_451)), 5 * 0.401]),
]


@pytest.mark.parametrize(("situation", "expected_s"), EXAMPLES, ids=lambda each: getattr(each, "__name__", None))
def test_worked_examples(
    situation: Callable[[Router, ReplicaId, ReplicaId], None], expected_s: tuple[float, float]
) -> None:
    """A prompt of 401 tokens with an answer of 100, at each of two replicas; nothing is evicted for long."""
    router = make_cluster()
    first, second = (each.replica_id for each in router.cluster.replicas)
    situation(router, first, second)
    assert costs(router, make_request("next", *PROMPT, max_answer_tokens=100)) == pytest.approx(expected_s, abs=2e-4)


def test_each_answer_of_our_own_is_slowed_down() -> None:
    """It slows down the ten that run, while our prompt is computed once."""
    router = make_cluster()
    ten_run(router, *(each.replica_id for each in router.cluster.replicas))
    request = make_request("next", *PROMPT, max_answer_tokens=100, num_choices=3)
    expected_s = 4 * 0.401 + 0.1 * (3 * 100 * (0.010 + 0.011 + 0.010 + 0.004_51) + 10 * 0.401)
    assert costs(router, request) == pytest.approx([expected_s, 4 * 0.401], abs=2e-4)


def test_answers_to_a_list_have_contexts_of_one_prompt_each() -> None:
    """There are 400 tokens in four prompts: each answer reads 100, and half of its own 100."""
    router = make_cluster()
    ten_run(router, *(each.replica_id for each in router.cluster.replicas))
    request = make_request("next", num_prompt_tokens=400, max_answer_tokens=100, num_prompts=4)
    expected_s = 4 * 0.4 + 0.1 * (4 * 100 * (0.010 + 0.011 + 0.010 + 10 * 0.000_150) + 10 * 0.4)
    assert costs(router, request) == pytest.approx([expected_s, 4 * 0.4], abs=2e-4)


@pytest.mark.parametrize("num_choices", [5, 6])
def test_all_answers_need_memory(num_choices: int) -> None:
    """A cache of 1,000 tokens has room for a prompt of 400 and six answers of 100, not for a seventh."""
    router = make_cluster(kv_capacity_tokens=1000)
    for number, expected_s in ((num_choices, 0.0), (7, 1 + 0.1 * 100 * 0.010)):
        request = make_request("next", num_prompt_tokens=400, max_answer_tokens=100, num_choices=number)
        assert costs(router, request, NO_EVICTIONS) == pytest.approx([0.4 + expected_s] * 2, abs=2e-4)


def test_half_of_a_session_whose_prompt_is_unknown_is_taken_to_be_cached_at_its_place() -> None:
    """200 of 400 tokens are left to compute there."""
    router = make_cluster()
    request = make_request("next", num_prompt_tokens=400, session_id="ann", max_answer_tokens=100)
    owner = router.cluster.replicas[1]
    assert costs(router, request, owner=owner) == pytest.approx([4 * 0.4, 4 * 0.2], abs=1e-4)


def test_a_cache_that_turns_over_faster_makes_its_tokens_dearer() -> None:
    """400 recent tokens in a cache of 1,000 and none in the other: with the 0.05 of it that all are taken to have, 0.45
    and 0.05, and 0.25 on average. Its eviction counts by the square root of that.
    """
    router = make_cluster(kv_capacity_tokens=1000)
    first, _ = (each.replica_id for each in router.cluster.replicas)
    router.cluster.load.fade(now=0)
    router.cluster.load.add_recent(first, tokens=400, requests=1)
    request = make_request("next", *PROMPT[:10], max_answer_tokens=1)
    assert costs(router, request) == pytest.approx([(1 + 3 * 1.8**0.5) * 0.041, (1 + 3 * 0.2**0.5) * 0.041])


@pytest.mark.parametrize(
    ("kv_used_tokens", "expected_s"),
    [
        # Without the engine's word: 500 + 100 are there, 100 will be, and 501 are ours: 201 of 1,000 too many. The wait
        # for memory is 1 s, and that share of an answer of 100 steps of 11.6 ms, 1 ms of them for the other sequence
        # and 0.6 ms for its context.
        (None, 1 + 0.201 * 100 * 0.0116),
        (300, 0),  # the engine has 300, as much of it is shared; 100 will be, and 501 are ours
        (399, 0),
        (400, 1 + 0.001 * 100 * 0.0116),
        (5000, 1 + 1.0 * 100 * 0.0116),  # never more than the whole answer
    ],
)
def test_what_will_not_fit_waits_for_memory(kv_used_tokens: int | None, expected_s: float) -> None:
    """A cache of 1,000 tokens, and in it a request of 500 with an answer of 200."""
    router = make_cluster(kv_capacity_tokens=1000)
    first, _ = (each.replica_id for each in router.cluster.replicas)
    book_running(router, first, "runs", prompt_tokens=500, answer_tokens=200)
    if kv_used_tokens is not None:
        router.on_engine_load(first, EngineLoad(0, 1, kv_used_tokens, num_preempted=0))
    request = make_request("next", *PROMPT, max_answer_tokens=100)
    with_memory, room = (
        costs(router, request, weights)[0] for weights in (NO_EVICTIONS, CostWeights(evictions=0, others=0.1, memory=0))
    )
    assert room <= with_memory
    decoding_s = 0.1 * (100 * (0.001 + 0.0006 + 0.001 + 0.000_451) + 0.401)
    assert with_memory == pytest.approx(0.401 + decoding_s + expected_s)


@pytest.mark.parametrize("is_told", [False, True])
def test_a_replica_whose_memory_would_overflow_is_avoided(*, is_told: bool) -> None:
    """It has a part of the prompt cached, and its cache will be full, by the bookings or by the engine's word."""
    for is_home in (True, False):
        router = make_cluster(kv_capacity_tokens=40_000)
        home, _ = (each.replica_id for each in router.cluster.replicas)
        router.cluster.holders.insert(home, make_request("", *PROMPT[:20]).block_hashes)
        if not is_told:
            book_running(router, home, "runs", prompt_tokens=100, answer_tokens=10 if is_home else 39_900)
        else:
            router.on_engine_load(home, EngineLoad(0, 1, 100 if is_home else 39_990, num_preempted=0))
        decision = router.choose(make_request("next", *PROMPT, max_answer_tokens=100), now=0).decision
        assert (decision.replica_id == home) is is_home


REPLICAS = st.tuples(
    st.integers(0, 25),  # cached blocks of the prompt's 25 times four
    st.lists(st.sampled_from((1, 100, 500, 5000)), max_size=4),  # prompt tokens of each that waits
    st.sampled_from((0, 0, 3)),  # answers that run
    st.sampled_from((0.5, 1, 1, 2)),  # speed
    st.sampled_from((0, 0, 0, 2000)),  # recent work
)


@given(st.lists(REPLICAS, min_size=2, max_size=7), st.integers(0, 25))
@example([(0, [1, 1, 5000], 0, 0.5, 0), (0, [1, 5000], 0, 0.5, 0)], 3)  # cheap for what it would overtake
def test_no_cheaper_replica_is_passed_over(
    states: list[tuple[int, list[int], int, float, int]], num_shared: int
) -> None:
    """Among few replicas the one chosen is the cheapest, or as good as that."""
    router = make_cluster(num_replicas=len(states), kv_capacity_tokens=10_000)
    router.cluster.load.fade(now=0)
    for replica, (num_held, waiting, num_running, speed, recent_tokens) in zip(
        router.cluster.replicas, states, strict=True
    ):
        for last in (901, 902):
            router.cluster.holders.insert(
                replica.replica_id, make_request("", *PROMPT[: 4 * num_shared], last).block_hashes
            )
        router.cluster.holders.insert(replica.replica_id, make_request("", *PROMPT[: 4 * num_held]).block_hashes)
        router.cluster.load.add_recent(replica.replica_id, tokens=recent_tokens, requests=1)
        for number, pending_tokens in enumerate(waiting):
            book_waiting(router, replica.replica_id, pending_tokens, request_id=f"waits-{replica.rank}-{number}")
        for number in range(num_running):
            book_running(router, replica.replica_id, f"{replica.rank}-{number}", prompt_tokens=500, answer_tokens=200)
        set_speed(router, replica.replica_id, speed)
    request = make_request("next", *PROMPT, max_answer_tokens=100)
    rank_to_cost = costs(router, request, CostWeights())
    chosen = router.policy.choose(request, router.cluster).replica
    assert rank_to_cost[chosen.rank] <= min(rank_to_cost) + CostWeights().tie_s + 1e-9

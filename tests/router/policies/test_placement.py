"""Where the cost rule sends many requests, one after the other."""

from collections import Counter
from heapq import heappop, heappush
from itertools import count

import pytest

from router import Replica, ReplicaId, Router, RouteRequest
from tests.builders import MODEL, book_running, book_waiting, make_replica, make_request, make_router, set_speed

SYSTEM_PROMPT = range(1, 26)
ROOM_TOKENS = 10**8


def make_cluster(num_replicas: int) -> Router:
    """A router that is sure that its replicas are as fast as the model; their caches have room for all."""
    router = make_router(num_replicas=num_replicas, kv_capacity_tokens=ROOM_TOKENS)
    for replica in router.cluster.replicas:
        set_speed(router, replica.replica_id, 1)
    return router


def start(router: Router, request: RouteRequest) -> ReplicaId:
    """Place a request that is computed at once, and whose answer is still decoded when all others come."""
    replica_id = router.choose(request, now=0).decision.replica_id
    router.on_prefilled(request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=0, now=0)
    router.check_integrity()
    return replica_id


def teach(router: Router, answer_tokens: int, *blocks: int, session_id: str = "", num_answers: int = 30) -> None:
    """Let requests with this prefix end with such an answer, at all replicas in turn."""
    for number in range(num_answers):
        request = make_request(f"{blocks}-{session_id}-{number}", *blocks, session_id=session_id)
        router.choose(request, now=0)
        router.on_prefilled(request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=0, now=0)
        router.on_finished(request.request_id, now=0, answer_tokens=answer_tokens)


@pytest.mark.parametrize("with_limits", [False, True])
def test_long_answers_behind_one_system_prompt_do_not_pile_up(*, with_limits: bool) -> None:
    """Reasoning: the 100 cached tokens of a replica save little, compared with 3,000 steps that others make longer.

    By pending tokens alone, whoever had the system prompt got them all.
    """
    router = make_cluster(4)
    if not with_limits:
        teach(router, 3000, *SYSTEM_PROMPT)
    running = Counter(
        start(router, make_request(f"{user}", *SYSTEM_PROMPT, user, max_answer_tokens=3000 if with_limits else None))
        for user in range(100, 140)
    )
    assert max(running.values()) <= 11
    assert len(running) == 4


def test_where_answers_are_long_a_follow_up_avoids_the_one_that_runs() -> None:
    """A conversation goes on while its last answer still runs: by those before, for a token, or for 20,000."""
    for answer_tokens, is_home in ((1, True), (20_000, False)):
        router = make_cluster(2)
        teach(router, answer_tokens, *SYSTEM_PROMPT)
        prompt = (*SYSTEM_PROMPT, *range(100, 150))
        home = start(router, make_request("first", *prompt))
        follow_up = router.choose(make_request("next", *prompt, 201), now=0).decision.replica_id
        assert (follow_up == home) is is_home


def test_who_computes_nothing_may_be_dearer_than_who_computes_a_little() -> None:
    """Seven of 40 replicas have nothing waiting and 30 answers running, one a token waiting, and the others 500 ms."""
    router = make_cluster(40)
    *busy, quiet = router.cluster.replicas
    crowded, busy = busy[:7], busy[7:]
    for replica in crowded:
        for number in range(30):
            book_running(
                router, replica.replica_id, f"{replica.rank}-{number}", prompt_tokens=100, answer_tokens=10_000
            )
    for replica in busy:
        book_waiting(router, replica.replica_id, 500, request_id=f"busy-{replica.rank}")
    book_waiting(router, quiet.replica_id, 1, request_id="quiet")
    for key in range(20):
        request = make_request(f"{key}", key, max_answer_tokens=100)
        assert asked(router, request) == quiet


@pytest.mark.parametrize(("num_at_third", "expected"), [(9, {2}), (11, {0, 1})])
def test_ten_answers_of_one_request_are_as_much_as_ten_requests(num_at_third: int, expected: set[int]) -> None:
    """They are at two of three replicas, between which the ring decides; the third decodes one answer less, or one
    more.
    """
    router = make_cluster(3)
    first, second, third = (each.replica_id for each in router.cluster.replicas)
    for number in range(10):
        book_running(router, first, f"first-{number}", prompt_tokens=1000, answer_tokens=200)
    book_running(router, second, "second", prompt_tokens=1000, answer_tokens=200, choices=10)
    for number in range(num_at_third):
        book_running(router, third, f"third-{number}", prompt_tokens=1000, answer_tokens=200)
    router.prepare(now=0)
    requests = [make_request(f"next-{number}", 1000 + number, max_answer_tokens=1000) for number in range(20)]
    assert {router.policy.choose(each, router.cluster).replica.rank for each in requests} == expected


def test_a_slow_replica_gets_fewer() -> None:
    """One of two computes at half the speed, which is learned from what its prefills take."""
    router = make_router(num_replicas=2, kv_capacity_tokens=ROOM_TOKENS)
    slow, fast = (replica.replica_id for replica in router.cluster.replicas)
    num_at = serve_queued(router, {slow: 0.5, fast: 1.0}, num_requests=400, interval_s=0.09)
    load = router.cluster.load
    assert load.speed(slow) < 0.65
    assert load.speed(fast) > 0.9
    assert 0.05 < num_at[slow] / 400 < 0.42


def serve_queued(
    router: Router, replica_to_speed: dict[ReplicaId, float], *, num_requests: int, interval_s: float
) -> Counter[ReplicaId]:
    """Different prompts of 101 tokens, each after an interval; every replica computes one after the other."""
    num_at: Counter[ReplicaId] = Counter()
    free_at = dict.fromkeys(replica_to_speed, 0.0)
    events: list[tuple[float, int, RouteRequest]] = []
    order = count()
    for number in range(num_requests):
        now = number * interval_s
        while events and events[0][0] <= now:
            finish(router, *heappop(events))
        request = make_request(f"{number}", *range(1000 * number, 1000 * number + 25), max_answer_tokens=1)
        replica_id = router.choose(request, now=now).decision.replica_id
        num_at[replica_id] += 1
        work_s = MODEL.prefill_s(request.num_prompt_tokens, num_before=0) + 1.5 * MODEL.step_s
        free_at[replica_id] = max(free_at[replica_id], now) + work_s / replica_to_speed[replica_id]
        heappush(events, (free_at[replica_id], next(order), request))
    return num_at


def finish(router: Router, now: float, _order: int, request: RouteRequest) -> None:
    """A prefill is done, and the answer with it."""
    router.on_prefilled(request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=0, now=now)
    router.on_finished(request.request_id, now=now)


def test_a_smaller_cache_gets_fewer_new_conversations() -> None:
    """A quarter of the other's: with half of the work it would turn over four times as fast."""
    router = make_router(num_replicas=2)
    small, large = make_replica(0, kv_capacity_tokens=5_000), make_replica(1, kv_capacity_tokens=20_000)
    router.set_replicas([small, large])
    for replica in (small, large):
        set_speed(router, replica.replica_id, 1)
    num_at: Counter[ReplicaId] = Counter()
    for number in range(300):
        request = make_request(f"{number}", *range(1000 * number, 1000 * number + 25))
        num_at[start(router, request)] += 1
        router.on_finished(request.request_id, now=0)
    assert 0.1 < num_at[small.replica_id] / 300 < 0.35


def test_a_shared_prefix_keeps_no_request_at_its_replica() -> None:
    """The same 100 tokens are cached at the first replica, where 60 ms of work wait: a conversation's own are worth the
    wait, a prefix that others have as well is not.
    """
    for is_shared in (False, True):
        router = make_cluster(2)
        home = router.cluster.replicas[0].replica_id
        router.cluster.holders.insert(home, make_request("", *SYSTEM_PROMPT, 900).block_hashes)
        if is_shared:
            router.cluster.holders.insert(home, make_request("", *SYSTEM_PROMPT, 901).block_hashes)
        book_waiting(router, home, 150)
        request = make_request("next", *SYSTEM_PROMPT, 900, 7) if not is_shared else make_request("new", *SYSTEM_PROMPT)
        decision = router.choose(request, now=0).decision
        assert (decision.replica_id == home) is not is_shared


def make_stale_pair(*, delay_s: float) -> tuple[Router, Router]:
    """Two routers that know the same: eight replicas, of which each has 4 ms more to compute than the one before it.

    They have sent 240 requests of 101 tokens between them, the other one every second of them, and hear of each other's
    after a delay.
    """
    routers = make_cluster(8), make_cluster(8)
    for router in routers:
        router.cluster.lateness.adopt(others_share=0.5, delay_s=delay_s)
        for number in range(240):
            request = make_request(f"{number}", *range(5000, 5025), max_answer_tokens=1)
            reservation = router.choose(request, now=0).reservation
            router.on_finished(reservation.request.request_id, now=0, answer_tokens=1)
        for replica in router.cluster.replicas:
            book_waiting(router, replica.replica_id, 1 + 4 * replica.rank, request_id=f"busy-{replica.rank}")
        home = router.cluster.replicas[-1].replica_id
        router.cluster.holders.insert(home, make_request("", *range(7000, 7100)).block_hashes)
    return routers


def asked(router: Router, request: RouteRequest) -> Replica:
    """What a router would choose now."""
    router.prepare(now=0)
    return router.policy.choose(request, router.cluster).replica


def test_what_is_decided_at_the_same_moment_differs_as_far_as_news_are_late() -> None:
    """Two routers and two prompts, before either hears of the other's decision; a returning conversation goes home."""
    delay_to_num_equal = {}
    for delay_s in (0.0, 0.5):
        one, other = make_stale_pair(delay_s=delay_s)
        pairs = [
            (
                asked(one, make_request("a", 10_000 + number, max_answer_tokens=1)),
                asked(other, make_request("b", 20_000 + number, max_answer_tokens=1)),
            )
            for number in range(100)
        ]
        delay_to_num_equal[delay_s] = sum(first == second for first, second in pairs)
        follow_up = make_request("c", *range(7000, 7101), max_answer_tokens=1)
        assert asked(one, follow_up) == asked(other, follow_up) == one.cluster.replicas[-1]
    assert delay_to_num_equal[0.0] >= 90
    assert delay_to_num_equal[0.5] <= 50


def test_what_a_replica_keeps_to_itself_for_a_while_is_not_late_for_that() -> None:
    """It says how long it waited, by a clock of its own, which may say a little more than has passed."""
    router = make_router(num_replicas=1)
    for number in range(400):
        now = float(number)
        request_id = router.choose(make_request(str(number), 1, 2), now=now).reservation.request.request_id
        replica_id = router.cluster.replicas[0].replica_id
        router.on_arrived(request_id, replica_id, now=now + 0.5, waited_s=0.3 + 0.3 * (number % 2))
        router.on_finished(request_id, now=now + 0.6)
    assert router.cluster.lateness.delay_s == pytest.approx(0.1, abs=0.002)


def test_how_late_news_are_is_learned_from_ones_own_requests() -> None:
    """Each arrives 200 ms after it was sent, and a peer sends as many, of 9 tokens each: 2 a second in all."""
    router, peer = make_router(num_replicas=1), make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    for number in range(400):
        now = float(number)
        own = router.choose(make_request(f"own-{number}", 1, 2), now=now).reservation
        router.on_arrived(own.request.request_id, replica.replica_id, now=now + 0.2)
        theirs = peer.choose(make_request(f"theirs-{number}", 3, 4), now=now).reservation
        router.on_reserved(theirs, now=now + 0.2)
        router.on_arrived(theirs.request.request_id, replica.replica_id, now=now + 0.2)
        for each in (own, theirs):
            router.on_finished(each.request.request_id, now=now + 0.3)
            peer.on_finished(each.request.request_id, now=now + 0.3)
    assert router.cluster.lateness.others_share == pytest.approx(0.5, abs=0.02)
    assert router.cluster.lateness.delay_s == pytest.approx(0.2, abs=0.001)
    unseen_requests = 0.5 * 2 * 0.2
    mean_tokens = router.cluster.load.total.recent_tokens / router.cluster.load.total.recent_requests
    assert router.cluster.unseen_s == pytest.approx(unseen_requests * mean_tokens / 1000, rel=0.1)

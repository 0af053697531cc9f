"""The baselines' rules, each in one worked example."""

from collections import Counter
from random import Random

import pytest

from router import Reason, Replica, Reservation, Router
from router.cluster import Cluster
from router.policies import LlmdApproximate
from router.policies.baselines.llmd_approximate import Metrics
from router.policies.baselines.sent_prefixes import SentPrefixes
from router.ring import Ring
from router.types import BlockHash
from tests.builders import make_replica, make_request, make_router


def book(router: Router, *num_requests: int) -> None:
    """Give each replica its number of requests of one token, in order of rank."""
    for replica, number in zip(router.cluster.replicas, num_requests, strict=True):
        for index in range(number):
            request = make_request(f"{replica.rank}-{index}", num_prompt_tokens=1)
            reservation = Reservation(
                request, replica.replica_id, num_held_blocks=0, is_computed=True, pending_tokens=1
            )
            router.on_reserved(reservation, now=0)


def send(router: Router, rank: int, *blocks: int) -> None:
    """A prompt that went to a replica and is over."""
    replica = router.cluster.replicas[rank]
    request = make_request(f"sent-{rank}-{blocks}", *blocks)
    reservation = Reservation(
        request,
        replica.replica_id,
        num_held_blocks=0,
        is_computed=True,
        pending_tokens=request.num_prompt_tokens,
    )
    router.on_reserved(reservation, now=0)
    router.on_prefilled(request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=0, now=0)
    router.on_finished(request.request_id, now=0)


def chosen(router: Router, *blocks: int, request_id: str = "asked", session_id: str = "") -> tuple[int, Reason]:
    """The rank that would be chosen, and why."""
    request = make_request(request_id, *blocks, session_id=session_id)
    router.prepare(now=0)
    choice = router.policy.choose(request, router.cluster)
    return choice.replica.rank, choice.reason


def test_random_is_blind() -> None:
    """Each of four replicas gets a quarter of a thousand requests, however busy it is."""
    router = make_router("random", num_replicas=4)
    book(router, 0, 0, 0, 50)
    counts = Counter(chosen(router)[0] for _ in range(1000))
    assert all(200 < counts[rank] < 300 for rank in range(4))


def test_power_of_two_takes_the_better_of_a_pair() -> None:
    """The replicas have 0, 1 and 9 requests: the first wins two of the three pairs, the second one, the third none."""
    router = make_router("power_of_two", num_replicas=3)
    book(router, 0, 1, 9)
    counts = Counter(chosen(router)[0] for _ in range(900))
    assert counts[0] + counts[1] == 900
    assert 250 < counts[1] < 350


@pytest.mark.parametrize(
    ("num_requests", "expected"),
    [((1, 0, 2), {1}), ((3, 2, 2), {1, 2}), ((0, 0, 0), {0, 1, 2}), ((0, 7, 7), {0})],
)
def test_least_requests(num_requests: tuple[int, ...], expected: set[int]) -> None:
    """The shortest queue; of equal ones any."""
    router = make_router("least_requests", num_replicas=3)
    book(router, *num_requests)
    assert {chosen(router)[0] for _ in range(50)} == expected


class TestSessionHash:
    """A ring of 100 virtual nodes."""

    def test_a_session_has_one_owner_whatever_it_asks(self) -> None:
        """The load does not matter, either."""
        router = make_router("session_hash", num_replicas=4)
        owner = chosen(router, 1, 2, session_id="ann")
        book(router, *(9 if rank == owner[0] else 0 for rank in range(4)))
        assert chosen(router, 7, request_id="other", session_id="ann") == owner == (owner[0], Reason.RING)
        assert len({chosen(router, session_id=f"session-{number}")[0] for number in range(50)}) == 4

    def test_without_a_session_requests_spread(self) -> None:
        """Requests go by their own ids."""
        router = make_router("session_hash", num_replicas=4)
        assert len({chosen(router, 1, 2, request_id=str(number))[0] for number in range(50)}) == 4

    def test_only_the_sessions_of_a_replica_that_left_move(self) -> None:
        """Each to the next one on the ring."""
        router = make_router("session_hash", num_replicas=4)
        before = {number: chosen(router, session_id=str(number))[0] for number in range(100)}
        router.set_replicas(make_replica(rank) for rank in (0, 1, 3))
        after = {number: chosen(router, session_id=str(number))[0] for number in range(100)}
        assert {number for number in before if before[number] != after[number]} == {
            number for number, rank in before.items() if rank == 2
        }


class TestChwbl:
    """KubeAI's rule, load + 1 <= 1.25 * (total + 1) / replicas, on a ring of 256 virtual nodes."""

    @pytest.mark.parametrize(
        ("owner_load", "other_load", "is_owner"),
        [
            (0, 0, True),  # nothing is running
            (1, 0, False),  # 2 > 1.25, and 1 <= 1.25
            (1, 1, True),  # 2 > 1.875 at both: the owner after all
            (5, 4, True),  # 6 <= 6.25
            (6, 4, False),  # 7 > 6.875
        ],
    )
    def test_the_bound(self, owner_load: int, other_load: int, is_owner: bool) -> None:
        """Two replicas, and requests with one head."""
        owner = next(Ring(range(2), virtual_nodes=256).successors(make_request("", 1).block_hashes[0]))
        router = make_router("chwbl", num_replicas=2)
        book(router, *((owner_load, other_load) if owner == 0 else (other_load, owner_load)))
        expected = (owner, Reason.RING) if is_owner else (1 - owner, Reason.SPILL)
        assert chosen(router, 1) == expected

    def test_the_head_comes_after_the_system_prompt(self) -> None:
        """Once two conversations with the same two blocks are known, the third block is the key."""
        router = make_router("chwbl", num_replicas=4)
        hashes = make_request("", 1, 2, 30).block_hashes
        ring = Ring(range(4), virtual_nodes=256)
        assert chosen(router, 1, 2, 30)[0] == next(ring.successors(hashes[0]))
        send(router, 0, 1, 2, 10)
        send(router, 0, 1, 2, 20)
        assert chosen(router, 1, 2, 30)[0] == next(ring.successors(hashes[2]))
        assert len({chosen(router, 1, 2, user)[0] for user in range(30, 80)}) == 4

    def test_without_a_key_requests_spread(self) -> None:
        """Requests go by their own ids."""
        router = make_router("chwbl", num_replicas=4)
        answers = {chosen(router, request_id=str(number)) for number in range(50)}
        assert answers == {(rank, Reason.NO_KEY) for rank in range(4)}


class TestLlmdApproximate:
    """3 * matched share of the prompt + 2 * queue score + 2 * free share of the KV cache."""

    @pytest.mark.parametrize(
        ("num_sent", "metrics", "expected"),
        [
            # Replica 0 was sent this number of the prompt's four blocks, replica 1 nothing.
            (4, (Metrics(2, 0.0), Metrics(0, 0.0)), (0, Reason.PREFIX)),  # 3 + 0 + 2 > 0 + 2 + 2
            (2, (Metrics(2, 0.0), Metrics(0, 0.0)), (1, Reason.SPILL)),  # 1.5 + 0 + 2 < 0 + 2 + 2
            (1, (Metrics(3, 0.0), Metrics(3, 0.0)), (0, Reason.PREFIX)),  # equal queues score 2 each
            (2, (Metrics(0, 0.8), Metrics(0, 0.0)), (1, Reason.SPILL)),  # 1.5 + 2 + 0.4 < 0 + 2 + 2
            (2, (Metrics(0, 0.7), Metrics(0, 0.0)), (0, Reason.PREFIX)),  # 1.5 + 2 + 0.6 > 0 + 2 + 2
            (0, (Metrics(1, 0.0), Metrics(0, 0.9)), (1, Reason.BASELINE)),  # 0 + 0 + 2 < 0 + 2 + 0.2
        ],
    )
    def test_scores(self, num_sent: int, metrics: tuple[Metrics, Metrics], expected: tuple[int, Reason]) -> None:
        """Two replicas."""

        def given_metrics(replica: Replica, _cluster: Cluster) -> Metrics:
            return metrics[replica.rank]

        router = make_router(LlmdApproximate(Random(0), metrics=given_metrics), num_replicas=2)
        chosen(router)  # it knows its replicas from now on
        send(router, 0, *range(1, num_sent + 1))
        assert chosen(router, 1, 2, 3, 4) == expected

    def test_a_router_of_its_own_counts_who_waits(self) -> None:
        """Requests without a first token; and of three queues the middle one scores in proportion."""
        router = make_router("llmd_approximate", num_replicas=3)
        chosen(router)
        send(router, 1, 1, 2, 3, 4)
        book(router, 0, 2, 3)
        assert chosen(router, 1, 2, 3, 4) == (1, Reason.PREFIX)  # 3 + 2 * 1/3 + 2 > 0 + 2 + 2
        assert chosen(router, 1, 9, 9, 9) == (0, Reason.SPILL)  # 0.75 + 2 * 1/3 + 2 < 0 + 2 + 2


class TestSglangCacheAware:
    """Threshold 0.3; imbalanced when the queues differ by more than 64 and by more than half."""

    @pytest.mark.parametrize(
        ("num_sent", "num_requests", "expected"),
        [
            # Replica 0 was sent this number of the prompt's ten blocks of four tokens; the prompt has 41 tokens.
            (3, (1, 0), (1, Reason.BASELINE)),  # 12 of 41 tokens match
            (4, (1, 0), (0, Reason.PREFIX)),  # 16 of 41
            (10, (64, 0), (0, Reason.PREFIX)),  # not more than 64 apart
            (10, (65, 0), (1, Reason.SPILL)),
            (10, (200, 134), (0, Reason.PREFIX)),  # 66 apart, but not more than 1.5 times
            (10, (202, 134), (1, Reason.SPILL)),
        ],
    )
    def test_prefix_or_queue(self, num_sent: int, num_requests: tuple[int, int], expected: tuple[int, Reason]) -> None:
        """Two replicas."""
        router = make_router("sglang_cache_aware", num_replicas=2)
        chosen(router)
        send(router, 0, *range(1, num_sent + 1))
        book(router, *num_requests)
        assert chosen(router, *range(1, 11)) == expected

    def test_of_several_holders_the_shortest_queue(self) -> None:
        """Two of three replicas were sent the prompt; the idle one was not."""
        router = make_router("sglang_cache_aware", num_replicas=3)
        chosen(router)
        send(router, 0, 1, 2, 3)
        send(router, 1, 1, 2, 3)
        book(router, 3, 2, 0)
        assert chosen(router, 1, 2, 3) == (1, Reason.PREFIX)


class TestSentPrefixes:
    """What was sent, up to a capacity."""

    def test_the_oldest_is_forgotten_and_memory_is_bounded(self) -> None:
        """Six blocks fit: of the first two prompts of three blocks, the older goes for the third."""
        router = make_router("random", num_replicas=1)
        (replica,) = router.cluster.replicas
        sent = SentPrefixes(lambda _replica: 6 * 4)
        sent.follow(router.cluster)
        for start in (10, 20, 30):
            request = make_request(str(start), start, start + 1, start + 2)
            sent.insert(Reservation(request, replica.replica_id, 0, is_computed=True, pending_tokens=0))
            assert sent.num_blocks(replica) <= 6
            sent.check_integrity()
        matches = [sent.matched_blocks(replica, make_request("", n, n + 1, n + 2)) for n in (10, 20, 30)]
        assert matches == [0, 3, 3]

    def test_a_replica_that_is_not_known_is_ignored(self) -> None:
        """It joined after the last decision, or is gone."""
        sent = SentPrefixes(lambda _replica: 24)
        request = make_request("a", 1)
        sent.insert(Reservation(request, make_replica(0).replica_id, 0, is_computed=True, pending_tokens=0))
        assert sent.replica_ids == frozenset()


def test_keys_reach_the_ring_as_they_are() -> None:
    """A block hash is 64 bits, spread like the ring's points, and needs no further hash."""
    router = make_router("chwbl", num_replicas=8)
    key = make_request("", 5).block_hashes[0]
    assert chosen(router, 5)[0] == next(Ring(range(8), virtual_nodes=256).successors(BlockHash(key)))

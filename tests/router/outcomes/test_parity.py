"""Replicas of which it is not known whether they find prompts by our keys: unknown is not a miss, and not a hit."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import Reason, ReplicaId, Router
from tests.builders import make_request, make_router


def held_at(router: Router, replica_id: ReplicaId) -> int:
    """Blocks."""
    return router.cluster.holders.num_blocks(replica_id)


def serve(router: Router, request_id: str, *blocks: int, cached_tokens: int) -> ReplicaId:
    """Place a request, and report what its engine reused."""
    request = make_request(request_id, *blocks)
    decision, _ = router.choose(request, now=0)
    router.on_prefilled(request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=cached_tokens, now=0)
    router.on_finished(request.request_id, now=0)
    return decision.replica_id


def test_the_estimate_of_a_doubted_replica_counts_nothing_until_it_is_known_again() -> None:
    """No credit for its copy, and nothing of it is reachable; afterwards, all of it is."""
    router = make_router(num_replicas=4, kv_capacity_tokens=10_000)
    holder = serve(router, "turn-1", 1, 2, 3, cached_tokens=0)
    router.set_parity(holder, is_known=False)
    doubted, _ = router.choose(make_request("turn-2", 1, 2, 3, 4), now=0)
    assert (doubted.reason, doubted.believed_cached_tokens, doubted.best_cached_tokens) == (Reason.RING, 0, 0)
    router.on_finished(doubted.request_id, now=0)
    router.set_parity(holder, is_known=True)
    known, _ = router.choose(make_request("turn-3", 1, 2, 3, 5), now=0)
    assert (known.reason, known.replica_id) == (Reason.PREFIX, holder)
    assert known.believed_cached_tokens == known.best_cached_tokens == 12


def test_beliefs_of_a_doubted_replica_are_kept_whatever_its_engine_reuses() -> None:
    """The estimate of a known replica that reuses less is corrected; that of a doubted one is not."""
    for is_known in (True, False):
        router = make_router(num_replicas=1)
        (replica,) = router.cluster.replicas
        serve(router, "other", 7, 8, cached_tokens=0)
        serve(router, "turn-1", 1, 2, 3, cached_tokens=0)
        router.set_parity(replica.replica_id, is_known=is_known)
        serve(router, "turn-2", 1, 2, 3, 4, cached_tokens=0)
        assert held_at(router, replica.replica_id) == (4 if is_known else 6)


def test_a_doubted_replica_is_expected_to_reuse_what_it_reused_lately() -> None:
    """Half of its prompts' tokens, so half of the next one's, whichever it is; never more than could be."""
    router = make_router(num_replicas=1)
    (replica,) = router.cluster.replicas
    router.set_parity(replica.replica_id, is_known=False)
    assert router.choose(make_request("a", 1, 2, 3), now=0).decision.believed_cached_tokens == 0
    router.on_prefilled(make_request("a").request_id, prompt_tokens=13, cached_tokens=6, now=0)
    assert router.choose(make_request("b", 7, 8, 9), now=0).decision.believed_cached_tokens == 6
    router.on_prefilled(make_request("b").request_id, prompt_tokens=1000, cached_tokens=1000, now=0)
    assert router.choose(make_request("c", 7, 8, 9), now=0).decision.believed_cached_tokens == 12
    assert router.choose(make_request("no key", num_prompt_tokens=100), now=0).decision.believed_cached_tokens == 0


def test_a_doubted_replica_gets_its_part_of_new_conversations() -> None:
    """Neither starved nor favoured: one of four, which reuses as little of new prompts as the others do."""
    router = make_router(num_replicas=4)
    doubted = router.cluster.replicas[0].replica_id
    router.set_parity(doubted, is_known=False)
    placed = [serve(router, str(number), 100 + number, 500 + number, cached_tokens=0) for number in range(400)]
    assert 60 < placed.count(doubted) < 140


def test_a_doubted_replica_gets_less_of_what_others_hold() -> None:
    """Their copies count."""
    router = make_router(num_replicas=2, kv_capacity_tokens=10_000)
    doubted, other = (replica.replica_id for replica in router.cluster.replicas)
    router.set_parity(doubted, is_known=False)
    for number in range(10):
        turn = (100 + number, 200 + number, 300 + number)
        router.cluster.holders.insert(other, make_request("", *turn).block_hashes)
        router.cluster.holders.insert(doubted, make_request("", *turn).block_hashes)
        assert serve(router, str(number), *turn, 400 + number, cached_tokens=12) == other


def test_a_replica_that_leaves_is_not_doubted_any_more() -> None:
    """Its id never comes again; of one that is not known, nothing is kept."""
    router = make_router(num_replicas=2)
    first, second = router.cluster.replicas
    router.set_parity(first.replica_id, is_known=False)
    router.set_parity(ReplicaId("unknown"), is_known=False)
    assert router.cluster.untrusted == {first.replica_id}
    router.set_replicas([second])
    assert router.cluster.untrusted == frozenset()
    assert router.cluster.trusted is router.cluster._id_to_eligible


@pytest.mark.parametrize("policy", ["prefix_affinity", "least_loaded", "chwbl"])
@given(seed=st.integers(0, 2**32), num_steps=st.integers(1, 40))
def test_the_account_stays_right_whoever_is_doubted(policy: str, seed: int, num_steps: int) -> None:
    """Doubts come and go, replicas too, and reports are arbitrary; in the end nothing is outstanding."""
    rng, router = Random(seed), make_router(policy, num_replicas=3)
    members = router.cluster.replicas
    for step in range(num_steps):
        router.set_parity(rng.choice(members).replica_id, is_known=rng.random() < 0.5)
        if rng.random() < 0.1:
            router.set_replicas(rng.sample(members, k=rng.randint(1, 3)))
        blocks = [1, 2, 3, 4][: rng.randint(1, 4)]
        request = make_request(str(step), *blocks, rng.randint(5, 7))
        decision, _ = router.choose(request, now=step)
        assert 0 <= decision.believed_cached_tokens < request.num_prompt_tokens
        assert 0 <= decision.best_cached_tokens < request.num_prompt_tokens
        if rng.random() < 0.7:
            router.on_prefilled(
                request.request_id,
                prompt_tokens=request.num_prompt_tokens,
                cached_tokens=rng.randrange(request.num_prompt_tokens),
                now=step,
            )
        router.check_integrity()
        if rng.random() < 0.8:
            router.on_finished(request.request_id, now=step)
    for step in range(num_steps):
        router.on_finished(make_request(str(step)).request_id, now=num_steps)
    router.check_integrity()
    assert router.cluster.load.num_reservations == 0

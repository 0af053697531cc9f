"""One contract for every policy: those of the core, and the peers that only simulations run."""

from collections import defaultdict
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.replay.engine import Engine, EngineOptions
from loadtests.replay.rivals.dynamo_service import DynamoService
from loadtests.replay.rivals.table import installed_names, make_policy
from router import Reason, ReplicaId, Router, RouteRequest, RoutingDecision
from tests.builders import BLOCK_SIZE, make_replica, make_request, make_router

blocks = st.lists(st.integers(1, 4), max_size=5)


def make(name: str, *, num_replicas: int = 4, seed: int = 0) -> Router:
    """A router in front of engines that do nothing, so that all are equally loaded."""
    engines: defaultdict[ReplicaId, Engine] = defaultdict(
        lambda: Engine(EngineOptions(kv_capacity_tokens=400), block_size=BLOCK_SIZE)
    )
    policy = make_policy(name, Random(seed), block_size=BLOCK_SIZE, engine_of=engines.__getitem__)
    return make_router(policy, num_replicas=num_replicas)


def serve(router: Router, request: RouteRequest) -> RoutingDecision:
    """A request from its decision to its end, at once."""
    decision = router.choose(request, now=0).decision
    router.on_prefilled(request.request_id, prompt_tokens=request.num_prompt_tokens, cached_tokens=0, now=0)
    router.on_finished(request.request_id, now=0)
    router.check_integrity()
    return decision


@pytest.mark.parametrize("name", installed_names())
class TestContract:
    """The contract of every policy."""

    @given(prompts=st.lists(blocks, min_size=1, max_size=20), num_replicas=st.integers(1, 5), seed=st.integers(0, 99))
    def test_it_chooses_a_known_replica_and_books_it(
        self, name: str, prompts: list[list[int]], num_replicas: int, seed: int
    ) -> None:
        """Whatever the prompts, keyed or not; and nothing stays booked when all have ended."""
        router = make(name, num_replicas=num_replicas, seed=seed)
        known = {replica.replica_id for replica in router.cluster.eligible}
        for number, prompt in enumerate(prompts):
            decision, reservation = router.choose(make_request(str(number), *prompt), now=0)
            assert decision.replica_id in known
            assert decision.policy == name
            assert decision.believed_cached_tokens <= decision.best_cached_tokens <= decision.num_prompt_tokens
            assert reservation.pending_tokens == decision.num_prompt_tokens - decision.believed_cached_tokens
            router.check_integrity()
        for number in range(len(prompts)):
            router.on_finished(make_request(str(number)).request_id, now=0)
        assert all(router.cluster.load_of(replica).num_requests == 0 for replica in router.cluster.eligible)

    @pytest.mark.parametrize("num_replicas", [1, 4])
    @pytest.mark.parametrize("num_prompt_tokens", [0, 1, 1000])
    def test_it_decides_without_block_hashes(self, name: str, num_replicas: int, num_prompt_tokens: int) -> None:
        """Unknown prompts of any length, on replicas that are all the same."""
        router = make(name, num_replicas=num_replicas)
        for number in range(3):
            assert serve(router, make_request(str(number), num_prompt_tokens=num_prompt_tokens)).reason != Reason.PREFIX

    def test_ties_are_not_broken_by_position(self, name: str) -> None:
        """Idle and equal replicas all get their share of unrelated requests, whoever is first in the list."""
        router = make(name)
        chosen = {serve(router, make_request(str(n), 1000 + n, 2000 + n)).replica_id for n in range(200)}
        assert len(chosen) == 4

    def test_replicas_out_of_the_choice_are_not_chosen(self, name: str) -> None:
        """They are replicas still, and have the prefix cached."""
        router = make(name)
        prompt = range(1, 6)
        for number in range(8):
            gone = serve(router, make_request(f"before-{number}", *prompt)).replica_id
        router.on_heard(gone, is_serving=False, now=0)
        for number in range(20):
            assert serve(router, make_request(f"after-{number}", *prompt)).replica_id != gone

    def test_replicas_that_left_are_forgotten(self, name: str) -> None:
        """One leaves, one is replaced under its rank: no choice and no estimate names the old ones."""
        router = make(name)
        for number in range(40):
            serve(router, make_request(str(number), number % 5, number))
        router.set_replicas([make_replica(0), make_replica(1), make_replica(2, generation=1)])
        members = {replica.replica_id for replica in router.cluster.replicas}
        for number in range(40):
            assert serve(router, make_request(f"later-{number}", number % 5, number)).replica_id in members
        assert getattr(router.policy, "replica_ids", members) == members

    def test_answering_teaches_nothing(self, name: str) -> None:
        """The choice for a prompt that was sent nowhere does not count as if it had been sent."""
        router = make(name)
        home = serve(router, make_request("known", *range(1, 9)))
        for _ in range(50):
            asked = router.policy.choose(make_request("asked", *range(100, 108)), router.cluster)
            assert asked.reason is not Reason.PREFIX
        again = router.policy.choose(make_request("again", *range(1, 9)), router.cluster)
        assert again.reason is not Reason.PREFIX or again.replica.replica_id == home.replica_id


@pytest.mark.parametrize("name", [name for name in installed_names() if name != DynamoService.name])
def test_the_same_seed_gives_the_same_choices(name: str) -> None:
    """So that a replay can be repeated; Dynamo's service draws random numbers of its own."""

    def choices() -> list[str]:
        router = make(name, num_replicas=3, seed=7)
        return [router.choose(make_request(str(n), n % 7, n), now=0).decision.replica_id for n in range(30)]

    assert choices() == choices()

"""Replicas whose engines tell what they have."""

from collections import Counter
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import BlockHash, ReplicaId, RequestId, Router
from tests.builders import BLOCK_SIZE, make_replica, make_request, make_router

ONE, TWO = make_replica(0).replica_id, make_replica(1).replica_id


def hashes_of(*blocks: int) -> tuple[BlockHash, ...]:
    """The chain of a prompt of full blocks."""
    return make_request("", *blocks).block_hashes


def held_blocks(router: Router, *blocks: int) -> int:
    """Leading blocks of a prompt that the first replica is estimated to have cached."""
    return router.cluster.holders.matched_blocks(ONE, hashes_of(*blocks))


@pytest.fixture
def router() -> Router:
    """One replica of 100 blocks, exact from its start."""
    router = make_router(num_replicas=1)
    router.on_blocks_cleared(ONE)
    return router


def store(router: Router, *blocks: int, num_new: int | None = None) -> None:
    """The engine stored the last `num_new` blocks of a prompt, or all of them."""
    hashes = hashes_of(*blocks)
    start = len(hashes) - (len(hashes) if num_new is None else num_new)
    router.on_blocks_stored(ONE, hashes[start - 1] if start else None, hashes[start:])
    router.check_integrity()


def remove(router: Router, *blocks: int, num_gone: int = 1) -> None:
    """The engine evicted the last `num_gone` blocks of a prompt, the deepest first."""
    router.on_blocks_removed(ONE, hashes_of(*blocks)[: -num_gone - 1 : -1])
    router.check_integrity()


def test_stored_blocks_are_cached_and_evicted_ones_are_not(router: Router) -> None:
    """Whoever asked for it: no request went through this router."""
    store(router, 1, 2, 3)
    assert held_blocks(router, 1, 2, 3, 4) == 3
    remove(router, 1, 2, 3, num_gone=2)
    assert held_blocks(router, 1, 2, 3, 4) == 1


def test_what_is_left_of_a_prompt_is_evicted_after_what_builds_on_it(router: Router) -> None:
    """When the engine's word is over: the end of the prompt that was used last is gone, an older one goes on there."""
    store(router, 1, 2, 3)
    store(router, 1, 2, 4)
    remove(router, 1, 2, 4)
    state = router.export(ONE, now=0)
    assert state is not None
    assert all(each.parent is None or each.parent < index for index, each in enumerate(state.held))
    router.on_events_lost(ONE)
    router.cluster.holders.add_replica(ONE, capacity_blocks=2)
    assert held_blocks(router, 1, 2, 3) == 2


def test_a_replica_is_exact_only_from_a_clear_on() -> None:
    """What was stored before is not known, so events mean nothing until then."""
    router = make_router(num_replicas=1)
    store(router, 1, 2)
    assert held_blocks(router, 1, 2) == 0
    router.on_blocks_cleared(ONE)
    store(router, 1, 2)
    assert held_blocks(router, 1, 2) == 2


def test_a_clear_takes_all_but_what_is_on_its_way(router: Router) -> None:
    """A request that was sent before, and is computed after it."""
    store(router, 1, 2)
    router.choose(make_request("on its way", 5, 6), now=0)
    router.on_blocks_cleared(ONE)
    router.check_integrity()
    assert (held_blocks(router, 1, 2), held_blocks(router, 5, 6)) == (0, 2)


def test_an_abort_keeps_what_was_stored(router: Router) -> None:
    """Two of three blocks were computed when the client left."""
    router.choose(make_request("aborted", 1, 2, 3), now=0)
    store(router, 1, 2)
    assert held_blocks(router, 1, 2, 3) == 3
    router.on_finished(RequestId("aborted"), now=1)
    router.check_integrity()
    assert held_blocks(router, 1, 2, 3) == 2


def test_an_abort_keeps_what_another_request_promises(router: Router) -> None:
    """Both were sent, neither is computed."""
    router.choose(make_request("aborted", 1, 2, 3), now=0)
    router.choose(make_request("waiting", 1, 2, 4), now=0)
    router.on_finished(RequestId("aborted"), now=1)
    assert (held_blocks(router, 1, 2, 3), held_blocks(router, 1, 2, 4)) == (2, 3)
    router.on_finished(RequestId("waiting"), now=1)
    router.check_integrity()
    assert held_blocks(router, 1, 2, 4) == 0


def test_an_ended_prompt_that_was_never_stored_is_not_cached(router: Router) -> None:
    """It had its first token, but the engine never told of its blocks: it does not reuse them."""
    router.choose(make_request("a", 1, 2), now=0)
    router.on_prefilled(RequestId("a"), prompt_tokens=9, cached_tokens=0, now=1)
    assert held_blocks(router, 1, 2) == 2
    router.on_finished(RequestId("a"), now=2)
    router.check_integrity()
    assert held_blocks(router, 1, 2) == 0


def test_a_promised_prompt_stays_cached_though_it_is_evicted(router: Router) -> None:
    """The request behind it will find it computed again, but only as far as it was promised."""
    store(router, 1, 2, 3, 4)
    router.choose(make_request("waiting", 1, 2, 3), now=0)
    remove(router, 1, 2, 3, 4, num_gone=4)
    assert held_blocks(router, 1, 2, 3, 4) == 3


def test_a_request_that_arrived_elsewhere_promises_nothing_here() -> None:
    """Also where it was computed before it was said to be elsewhere."""
    router = make_router(num_replicas=2)
    for replica_id in (ONE, TWO):
        router.on_blocks_cleared(replica_id)
    for prefilled in (False, True):
        request = make_request(f"moved {prefilled}", 1, 2)
        decision = router.choose(request, now=0).decision
        if prefilled:
            router.on_prefilled(request.request_id, prompt_tokens=9, cached_tokens=0, now=0)
        other = TWO if decision.replica_id == ONE else ONE
        router.on_arrived(request.request_id, other, now=0)
        router.check_integrity()
        holders = router.cluster.holders
        assert holders.matched_blocks(decision.replica_id, request.block_hashes) == 0
        assert holders.matched_blocks(other, request.block_hashes) == 2
        router.on_finished(request.request_id, now=0)


def test_a_block_stored_twice_is_gone_when_both_copies_are(router: Router) -> None:
    """Two requests computed it at a time, each in memory of its own, as vLLM does."""
    store(router, 1, 2)
    store(router, 1, 2, num_new=1)
    remove(router, 1, 2)
    assert held_blocks(router, 1, 2) == 2
    remove(router, 1, 2)
    assert held_blocks(router, 1, 2) == 1


def test_a_removal_that_is_repeated_or_of_something_unknown_changes_nothing(router: Router) -> None:
    """They come in one message, in another, and for a block that was never there."""
    store(router, 1, 2)
    last = hashes_of(1, 2)[-1]
    router.on_blocks_removed(ONE, [last, last, hashes_of(9)[0]])
    router.on_blocks_removed(ONE, [last])
    router.on_blocks_removed(TWO, [last])
    router.check_integrity()
    store(router, 1, 2, num_new=1)
    assert held_blocks(router, 1, 2) == 2


def test_blocks_on_an_evicted_one_are_cached_again_when_it_is_back(router: Router) -> None:
    """It stays in the engine's memory, where nothing can reach it for now."""
    store(router, 1, 2, 3)
    store(router, 1, 2, 4, num_new=1)
    remove(router, 1, 2)
    assert held_blocks(router, 1, 2, 3) == 1
    remove(router, 1, 2, 4)  # evicted while out of reach
    store(router, 1, 2, num_new=1)
    assert (held_blocks(router, 1, 2, 3), held_blocks(router, 1, 2, 4)) == (3, 2)


def test_blocks_of_an_unknown_parent_wait_for_it(router: Router) -> None:
    """None of them is cached, and nothing else is disturbed."""
    store(router, 1, 2, 3, 4, num_new=2)
    assert held_blocks(router, 1, 2, 3, 4) == 0
    store(router, 1, 2)
    assert held_blocks(router, 1, 2, 3, 4) == 4


def test_a_chain_that_waits_in_part_already_waits_as_a_whole(router: Router) -> None:
    """The second message begins with a block of the first; what follows it was once forgotten."""
    store(router, 1, 2, num_new=1)
    store(router, 1, 2, 3, num_new=2)
    store(router, 1)
    assert held_blocks(router, 1, 2, 3) == 3


def test_a_block_that_waits_and_comes_again_with_its_parents_is_there_twice(router: Router) -> None:
    """It waits no more, and is gone when both copies are."""
    store(router, 1, 2, 3, num_new=1)
    store(router, 1, 2, 3)
    assert held_blocks(router, 1, 2, 3) == 3
    remove(router, 1, 2, 3)
    assert held_blocks(router, 1, 2, 3) == 3
    remove(router, 1, 2, 3)
    assert held_blocks(router, 1, 2, 3) == 2


def test_capacity_and_receipts_do_not_evict_from_an_exact_replica(router: Router) -> None:
    """The engine does that itself, and says so: 150 blocks on a replica that reported 100, and a bad surprise."""
    for number in range(50):
        store(router, number, 1, 2)
    router.choose(make_request("a", 7, 1, 2), now=0)
    router.on_prefilled(RequestId("a"), prompt_tokens=13, cached_tokens=0, now=1)
    assert router.cluster.holders.num_blocks(ONE) == 150


def test_more_than_any_engine_could_have_ends_it(router: Router) -> None:
    """201 blocks on a replica that reported 100: its events are not understood. The last 100 are estimated to be
    cached.
    """
    for number in range(67):
        store(router, number, 1, 2)
    assert not router.cluster.holders.is_exact(ONE)
    assert router.cluster.holders.num_blocks(ONE) == 100
    assert (held_blocks(router, 66, 1, 2), held_blocks(router, 0, 1, 2)) == (3, 0)


def test_when_events_are_lost_receipts_go_on_from_what_is_known(router: Router) -> None:
    """Events mean nothing any more, receipts do: what is missing was stored last, so all before it is gone, too."""
    for number in range(50):
        store(router, number, 1, 2)
    router.on_events_lost(ONE)
    router.check_integrity()
    assert router.cluster.holders.num_blocks(ONE) == 100
    store(router, 60, 1)
    remove(router, 49, 1, 2)
    assert (held_blocks(router, 60, 1), held_blocks(router, 49, 1, 2)) == (0, 3)
    router.choose(make_request("a", 49, 1, 2), now=0)
    router.on_prefilled(RequestId("a"), prompt_tokens=13, cached_tokens=0, now=1)
    assert router.cluster.holders.num_blocks(ONE) == 3


def test_an_answer_is_one_run_however_slowly_it_comes(router: Router) -> None:
    """Block after block, as it is decoded. The next turn, with or without the answer, starts no conversation."""
    router.choose(make_request("turn", 1, 2), now=0)
    store(router, 1, 2)
    for num_blocks in range(1, 9):
        store(router, 1, 2, *range(10, 10 + num_blocks), num_new=1)
    match = router.cluster.holders.match(hashes_of(1, 2, *range(10, 20)))
    assert [step.end for step in match.steps] == [2, 10]
    assert match.shared_blocks == 0
    for other in (hashes_of(1, 2), hashes_of(1, 2, 30), hashes_of(1, 2, 10, 11, 30)):
        assert router.cluster.holders.match(other).shared_blocks == 0
    router.choose(make_request("next turn", 1, 2, 10, 11, 30), now=0)
    assert router.cluster.holders.match(hashes_of(1, 2, 10, 11)).shared_blocks == 4


def test_a_prompt_that_goes_on_otherwise_leaves_an_answer_where_it_is(router: Router) -> None:
    """The engine has the answer to the prompt before, and did not say that it has it no more."""
    router.choose(make_request("asked", 1, 2), now=0)
    store(router, 1, 2, 3)
    router.choose(make_request("otherwise", 1, 2, 4), now=0)
    router.check_integrity()
    assert held_blocks(router, 1, 2, 3) == 3


def test_a_reset_of_all_caches_is_told_by_an_exact_engine_itself(router: Router) -> None:
    """An engine refuses it while anything runs; only the event says that it happened."""
    store(router, 1, 2)
    router.on_caches_reset()
    assert held_blocks(router, 1, 2) == 2


def test_a_peers_belief_does_not_replace_what_is_known() -> None:
    """What the peer has outstanding there is promised, though."""
    router, peer = make_router(num_replicas=1), make_router(num_replicas=1)
    router.on_blocks_cleared(ONE)
    store(router, 1)
    peer.choose(make_request("old", 7, 8), now=0)
    peer.on_prefilled(RequestId("old"), prompt_tokens=9, cached_tokens=0, now=0)
    peer.on_finished(RequestId("old"), now=0)
    peer.choose(make_request("waiting", 5, 6), now=0)
    state = peer.export(ONE, now=0)
    assert state is not None
    router.adopt(state, now=0)
    router.check_integrity()
    assert (held_blocks(router, 1), held_blocks(router, 7, 8), held_blocks(router, 5, 6)) == (1, 0, 2)


def test_memory_does_not_grow_with_blocks_that_come_and_go(router: Router) -> None:
    """Chains over chains, evicted in another order than they came."""
    rng = Random(1)
    stored: list[tuple[int, ...]] = []
    for number in range(3000):
        prompt = (number % 3, *(rng.randrange(3) for _ in range(4)), number)
        store_quietly(router, prompt)
        stored.append(prompt)
        if len(stored) > 20:
            router.on_blocks_removed(ONE, hashes_of(*stored.pop(rng.randrange(10)))[::-1])
    for prompt in stored:
        router.on_blocks_removed(ONE, hashes_of(*prompt)[::-1])
    router.check_integrity()
    assert router.cluster.holders.is_exact(ONE)
    assert router.cluster.holders.num_blocks(ONE) == 0


def store_quietly(router: Router, blocks: tuple[int, ...]) -> None:
    """The event is applied without a look at everything."""
    router.on_blocks_stored(ONE, None, hashes_of(*blocks))


Path = tuple[int, ...]
paths = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)


class ExactAgainstModel(RuleBasedStateMachine):
    """Two exact replicas, which fall back now and then, against counted sets of blocks and lists of prompts.

    A block is named by its path: the blocks of the prompt up to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.router = make_router(num_replicas=2, kv_capacity_tokens=2000 * BLOCK_SIZE, ttl_s=1000)
        self.copies: dict[ReplicaId, Counter[Path]] = {}
        self.outstanding: dict[str, tuple[ReplicaId, Path]] = {}
        self.num_requests = 0
        for replica_id in (ONE, TWO):
            self.clear(replica_id)

    replica_ids = st.sampled_from([ONE, TWO])

    @rule(replica_id=replica_ids)
    def clear(self, replica_id: ReplicaId) -> None:
        """It is exact from now on, if it was not."""
        self.copies[replica_id] = Counter()
        self.router.on_blocks_cleared(replica_id)

    @rule(replica_id=replica_ids)
    def lose(self, replica_id: ReplicaId) -> None:
        """It is not exact any more, and is not looked at until it is cleared."""
        self.copies.pop(replica_id, None)
        self.router.on_events_lost(replica_id)

    @rule(replica_id=replica_ids, path=paths, num_before=st.integers(0, 5))
    def store(self, replica_id: ReplicaId, path: Path, num_before: int) -> None:
        """The engine stores the end of a prompt, whether or not its start is there."""
        start = min(num_before, len(path) - 1)
        parent = hashes_of(*path[:start])[-1] if start else None
        self.router.on_blocks_stored(replica_id, parent, hashes_of(*path)[start:])
        if replica_id in self.copies:
            self.copies[replica_id].update(path[:end] for end in range(start + 1, len(path) + 1))

    @rule(replica_id=replica_ids, removed=st.lists(paths, min_size=1, max_size=8))
    def remove_any(self, replica_id: ReplicaId, removed: list[Path]) -> None:
        """Blocks here and there, some unknown, some twice."""
        self.router.on_blocks_removed(replica_id, [hashes_of(*path)[-1] for path in removed])
        self.take_copies(replica_id, removed)

    @rule(replica_id=replica_ids, path=paths, num_gone=st.integers(1, 6), is_deepest_first=st.booleans())
    def remove_chain(self, replica_id: ReplicaId, path: Path, num_gone: int, *, is_deepest_first: bool) -> None:
        """As engines do."""
        removed = [path[:end] for end in range(len(path), max(0, len(path) - num_gone), -1)]
        if not is_deepest_first:
            removed.reverse()
        self.router.on_blocks_removed(replica_id, [hashes_of(*each)[-1] for each in removed])
        self.take_copies(replica_id, removed)

    def take_copies(self, replica_id: ReplicaId, removed: list[Path]) -> None:
        """From the model."""
        if replica_id in self.copies:
            self.copies[replica_id] -= Counter(removed)

    @rule(path=paths)
    def reserve(self, path: Path) -> None:
        """Wherever it goes."""
        self.num_requests += 1
        request_id = str(self.num_requests)
        decision = self.router.choose(make_request(request_id, *path), now=0).decision
        self.outstanding[request_id] = decision.replica_id, path

    @rule(data=st.data(), cached_tokens=st.integers(0, 24))
    def prefill(self, data: st.DataObject, cached_tokens: int) -> None:
        """A first token; events say what is stored, so no cached tokens say anything."""
        request_id = self.some_id(data)
        self.router.on_prefilled(RequestId(request_id), prompt_tokens=99, cached_tokens=cached_tokens, now=0)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Or abort, where there was no first token."""
        request_id = self.some_id(data)
        self.router.on_finished(RequestId(request_id), now=0)
        self.outstanding.pop(request_id, None)

    @rule(data=st.data(), replica_id=replica_ids)
    def arrive(self, data: st.DataObject, replica_id: ReplicaId) -> None:
        """Here or there."""
        request_id = self.some_id(data)
        self.router.on_arrived(RequestId(request_id), replica_id, now=0)
        if request_id in self.outstanding:
            self.outstanding[request_id] = replica_id, self.outstanding[request_id][1]

    @rule(replica_id=replica_ids)
    def replace(self, replica_id: ReplicaId) -> None:
        """A new process under the same name would be a new id; here, it leaves and comes back, exact from its start."""
        members = self.router.cluster.replicas
        self.router.set_replicas(each for each in members if each.replica_id != replica_id)
        self.router.set_replicas(members)
        self.outstanding = {key: each for key, each in self.outstanding.items() if each[0] != replica_id}
        self.clear(replica_id)

    def some_id(self, data: st.DataObject) -> str:
        """The prompt of a request, over or not."""
        return str(data.draw(st.integers(0, self.num_requests)))

    def is_held(self, replica_id: ReplicaId, path: Path) -> bool:
        """Stored with all before it, or promised."""
        copies = self.copies[replica_id]
        if all(copies[path[: end + 1]] > 0 for end in range(len(path))):
            return True
        return any(where == replica_id and prompt[: len(path)] == path for where, prompt in self.outstanding.values())

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        """Block by block: of everything that was ever told, and one more."""
        self.router.check_integrity()
        for replica_id, copies in self.copies.items():
            told = set(copies) | {prompt for _, prompt in self.outstanding.values()}
            known = {path[:end] for path in told for end in range(1, len(path) + 1)}
            held = {path for path in known if self.is_held(replica_id, path)}
            for path in held:
                match = self.router.cluster.holders.matched_blocks(replica_id, hashes_of(*path))
                assert match == len(path), (replica_id, path)
            assert self.router.cluster.holders.num_blocks(replica_id) == len(held)


TestExactAgainstModel = ExactAgainstModel.TestCase
TestExactAgainstModel.settings = settings(max_examples=150, stateful_step_count=50)

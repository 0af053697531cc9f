"""The replicas that have each prefix cached."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import BlockHash, ReplicaId
from router.belief.eviction import Use
from router.belief.holders import Holders, Placed
from tests.builders import prefixes_of

ONE, TWO = ReplicaId("one"), ReplicaId("two")
# Prefixes in a tree: a path of small numbers is a prompt, and a block's hash is its path.
replica_ids = st.sampled_from([ONE, TWO])
paths = st.lists(st.integers(0, 2), min_size=0, max_size=7)


def hashes_of(path: list[int]) -> list[BlockHash]:
    """The chain of block hashes of a path: equal for equal prefixes only."""
    return [BlockHash(hash(tuple(path[: depth + 1])) & (2**64 - 1)) for depth in range(len(path))]


def make_holders(capacity_blocks: int) -> Holders:
    """Two replicas of equal capacity."""
    holders = Holders()
    holders.add_replica(ONE, capacity_blocks=capacity_blocks)
    holders.add_replica(TWO, capacity_blocks=capacity_blocks)
    return holders


def test_a_prefix_is_cached_where_it_was_inserted() -> None:
    """It is cached only there, and only to its depth."""
    holders = make_holders(8)
    holders.insert(ONE, hashes_of([1, 2, 3]))
    assert holders.matched_blocks(ONE, hashes_of([1, 2, 0, 0])) == 2
    assert holders.matched_blocks(TWO, hashes_of([1, 2, 3])) == 0


def test_leaves_are_evicted_before_stems() -> None:
    """Capacity 4: the older branch loses its leaf first, its shared stem stays."""
    holders = make_holders(4)
    holders.insert(ONE, hashes_of([0, 1, 1]))
    holders.insert(ONE, hashes_of([0, 2, 2]))
    assert holders.matched_blocks(ONE, hashes_of([0, 2, 2])) == 3
    assert holders.matched_blocks(ONE, hashes_of([0, 1, 1])) == 2


def test_discarding_spares_what_others_build_on() -> None:
    """A request that never ran takes back its own leaves, not a block below which another prompt hangs."""
    holders = make_holders(8)
    holders.insert(ONE, hashes_of([0, 1, 1]))
    holders.insert(ONE, hashes_of([0, 1, 2]))
    holders.discard_after(ONE, hashes_of([0, 1, 1]), num_kept=0)
    assert holders.matched_blocks(ONE, hashes_of([0, 1, 1])) == 2
    assert holders.matched_blocks(ONE, hashes_of([0, 1, 2])) == 3


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ([0, 1, 1, 5], 2),  # continues a cached prompt; 0 and 1 are shared with the other
        ([0, 1, 3], 2),  # a new branch below what both share
        ([0, 1, 1], 2),
        ([0, 1], 2),  # ends where the others part
        ([0, 7], 1),  # a new branch below the first block
        ([9], 0),  # unknown
    ],
)
def test_shared_blocks_are_those_below_which_prompts_part(path: list[int], expected: int) -> None:
    """Two prompts are cached: 0 1 1 and 0 1 2."""
    holders = make_holders(8)
    holders.insert(ONE, hashes_of([0, 1, 1]))
    holders.insert(ONE, hashes_of([0, 1, 2]))
    assert holders.match(hashes_of(path)).shared_blocks == expected


def test_a_block_in_which_many_prompts_end_is_shared() -> None:
    """One system prompt, and questions too short to fill a block: the hashes are the same, the requests are not."""
    holders = make_holders(8)
    for num_prompts in range(1, 6):
        holders.insert(ONE, hashes_of([0, 1]), placed=Placed(work=1, mean_work=1))
        assert holders.match(hashes_of([0, 1])).shared_blocks == (2 if num_prompts >= 4 else 0)
        assert holders.match(hashes_of([0, 1, 2])).shared_blocks == (2 if num_prompts >= 4 else 0)


def test_one_conversation_shares_nothing_with_itself() -> None:
    """Its next turn extends the cached prefix, and nothing else builds on it."""
    holders = make_holders(8)
    holders.insert(ONE, hashes_of([0, 1]))
    holders.insert(ONE, hashes_of([0, 1, 2]))
    assert holders.match(hashes_of([0, 1, 2, 3])).shared_blocks == 0


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (5, 1),  # half of what a replica has on average
        (25, 3),  # widened at once to 3
        (-6, 3),  # 24: 3 replicas are not too many for 2.4 times the mean
        (-12, 2),  # 12: for 1.2 times the mean they are, by the factor of 1.5
        (-11, 1),  # 1: cold again
    ],
)
def test_a_crowded_prefix_is_for_more_replicas(work: float, expected: int) -> None:
    """A replica has 10 on average. Work is added step by step, or has faded."""
    steps = [5, 25, -6, -12, -11]
    holders = make_holders(8)
    for step in steps[: steps.index(work) + 1]:
        holders.insert(ONE, hashes_of([0, 1]), placed=Placed(work=step, mean_work=10))
    assert holders.match(hashes_of([0, 1])).steps[0].run.fan_out == expected


def test_what_one_replica_evicts_another_keeps() -> None:
    """Both have three blocks cached; one loses the last of them, and the next two with the third prompt."""
    holders = make_holders(4)
    for replica_id in (ONE, TWO):
        holders.insert(replica_id, hashes_of([1, 2, 3]))
    holders.insert(ONE, hashes_of([7, 8]))
    for expected in (2, 0):
        match = holders.match(hashes_of([1, 2, 3]))
        assert (match.blocks_at(ONE), match.blocks_at(TWO)) == (expected, 3)
        holders.check_integrity()
        holders.insert(ONE, hashes_of([7, 8, 9, 10]))


def test_shrinking_a_replica_evicts_the_oldest() -> None:
    """A replica that reports less capacity is estimated to have less cached at once."""
    holders = make_holders(8)
    holders.insert(ONE, hashes_of([1, 1]))
    holders.insert(ONE, hashes_of([2, 2]))
    holders.add_replica(ONE, capacity_blocks=2)
    assert holders.matched_blocks(ONE, hashes_of([1, 1])) == 0
    assert holders.matched_blocks(ONE, hashes_of([2, 2])) == 2
    holders.check_integrity()


def test_clear_forgets_prefixes_and_keeps_replicas() -> None:
    """After a cache reset the next prompt is cold everywhere."""
    holders = make_holders(8)
    holders.insert(ONE, hashes_of([1, 1]))
    holders.clear()
    assert holders.matched_blocks(ONE, hashes_of([1, 1])) == 0
    assert holders.num_blocks(ONE) == 0


@given(st.lists(paths, min_size=1, max_size=12), st.integers(1, 12))
def test_what_was_used_before_a_use_can_be_given_up(used: list[list[int]], use: int) -> None:
    """Uses are counted; every node belongs to its last one, and those of later uses stay."""
    used = [path for path in used if path]
    holders = make_holders(100)
    node_to_use: dict[tuple[int, ...], int] = {}
    for number, path in enumerate(used, 1):
        holders.insert(ONE, hashes_of(path))
        node_to_use |= {tuple(path[:depth]): number for depth in range(1, len(path) + 1)}
    for path in used:
        last_uses = holders.last_uses(ONE, hashes_of(path)).stretches
        assert [each.number for each in last_uses] == [node_to_use[tuple(path[: each.end])] for each in last_uses]
        assert last_uses[-1].end == len(path)
        assert holders.last_uses(TWO, hashes_of(path)).cached_blocks == 0
    holders.evict_before(ONE, use)
    holders.check_integrity()
    kept = {node for node, number in node_to_use.items() if number >= use}
    assert holders.num_blocks(ONE) == len(kept)
    assert all(holders.matched_blocks(ONE, hashes_of(list(node))) == len(node) for node in kept)


def test_what_is_in_use_is_not_given_up() -> None:
    """However long ago it began to be, and it is in use from then on as if it began now."""
    holders = make_holders(100)
    holders.insert(ONE, hashes_of([1, 1]), use=Use())
    holders.insert(ONE, hashes_of([2, 2]))
    holders.insert(ONE, hashes_of([3, 3]))
    (last_use,) = holders.last_uses(ONE, hashes_of([3, 3])).stretches
    for _ in range(2):
        holders.evict_before(ONE, last_use.number)
        held = [holders.matched_blocks(ONE, hashes_of([each, each])) for each in (1, 2, 3)]
        assert held == [2, 0, 2]
    holders.check_integrity()


class HoldersAgainstModel(RuleBasedStateMachine):
    """`Holders` against the naive model: for each replica a list of paths, oldest first, leaf-first eviction.

    What is in use is passed over, even where it is more than fits.
    """

    CAPACITY_BLOCKS = 6

    def __init__(self) -> None:
        super().__init__()
        self.holders = make_holders(self.CAPACITY_BLOCKS)
        self.model: dict[ReplicaId, list[tuple[int, ...]]] = {ONE: [], TWO: []}
        self.in_use: dict[ReplicaId, dict[Use, list[int]]] = {ONE: {}, TWO: {}}

    def touch(self, replica_id: ReplicaId, path: list[int]) -> None:
        """Put the path's nodes last, deepest first."""
        held = self.model[replica_id]
        for depth in range(len(path), 0, -1):
            node = tuple(path[:depth])
            if node in held:
                held.remove(node)
            held.append(node)

    def used_nodes(self, replica_id: ReplicaId) -> set[tuple[int, ...]]:
        """The nodes in use."""
        used = self.in_use[replica_id].values()
        return {tuple(path[:depth]) for path in used for depth in range(1, len(path) + 1)}

    @rule(replica_id=replica_ids, path=paths, is_going_on=st.booleans())
    def insert(self, replica_id: ReplicaId, path: list[int], *, is_going_on: bool) -> None:
        """Touch the path's nodes, then drop the oldest."""
        path = path[: self.CAPACITY_BLOCKS]
        use = None
        if is_going_on and path:
            use = Use()
            self.in_use[replica_id][use] = path
        self.holders.insert(replica_id, hashes_of(path), use=use)
        self.touch(replica_id, path)
        self.evict(replica_id, len(self.model[replica_id]) - self.CAPACITY_BLOCKS)

    @rule(replica_id=replica_ids, data=st.data())
    def end(self, replica_id: ReplicaId, data: st.DataObject) -> None:
        """What was in use is now what was used last."""
        if not self.in_use[replica_id]:
            return
        use = data.draw(st.sampled_from(list(self.in_use[replica_id])))
        path = self.in_use[replica_id].pop(use)
        self.holders.insert(replica_id, hashes_of(path))
        self.holders.end_use(replica_id, use)
        self.touch(replica_id, path)
        self.evict(replica_id, len(self.model[replica_id]) - self.CAPACITY_BLOCKS)

    @rule(replica_id=replica_ids, capacity_blocks=st.integers(2, CAPACITY_BLOCKS))
    def shrink(self, replica_id: ReplicaId, capacity_blocks: int) -> None:
        """The capacity shrinks and grows again: the blocks that were used longest ago are gone."""
        for each in (capacity_blocks, self.CAPACITY_BLOCKS):
            self.holders.add_replica(replica_id, capacity_blocks=each)
        self.evict(replica_id, len(self.model[replica_id]) - capacity_blocks)

    def evict(self, replica_id: ReplicaId, num_blocks: int) -> None:
        """Evict from the model."""
        used = self.used_nodes(replica_id)
        for node in [node for node in self.model[replica_id] if node not in used][: max(0, num_blocks)]:
            self.model[replica_id].remove(node)

    @rule(replica_id=replica_ids, path=paths, num_kept=st.integers(0, 3))
    def discard(self, replica_id: ReplicaId, path: list[int], num_kept: int) -> None:
        """Drop the path's nodes from its end while nothing hangs below them; what stays has just been used."""
        self.holders.discard_after(replica_id, hashes_of(path), num_kept=num_kept)
        self.discard_from_model(replica_id, path, num_kept=num_kept)

    @rule(replica_id=replica_ids, data=st.data(), num_kept=st.integers(0, 3))
    def give_up(self, replica_id: ReplicaId, data: st.DataObject, num_kept: int) -> None:
        """The same of what was in use, and is not any more."""
        if not self.in_use[replica_id]:
            return
        use = data.draw(st.sampled_from(list(self.in_use[replica_id])))
        path = self.in_use[replica_id].pop(use)
        self.holders.insert(replica_id, hashes_of(path))
        self.touch(replica_id, path)
        self.holders.discard_after(replica_id, hashes_of(path), num_kept=num_kept, use=use)
        self.discard_from_model(replica_id, path, num_kept=num_kept)
        self.holders.end_use(replica_id, use)
        self.evict(replica_id, len(self.model[replica_id]) - self.CAPACITY_BLOCKS)

    def discard_from_model(self, replica_id: ReplicaId, path: list[int], *, num_kept: int) -> None:
        """Discard from the model; nodes in use stay."""
        held, used = self.model[replica_id], self.used_nodes(replica_id)
        end = self.num_matched(replica_id, path)
        if end <= num_kept:
            return
        num_kept = max([num_kept, *(depth for depth in range(1, end + 1) if tuple(path[:depth]) in used)])
        while end > num_kept and not any(other[:end] == tuple(path[:end]) and len(other) > end for other in held):
            held.remove(tuple(path[:end]))
            end -= 1
        self.touch(replica_id, path[:end])

    @rule(replica_id=replica_ids)
    def take_over(self, replica_id: ReplicaId) -> None:
        """A router that joins has the same estimates, and goes on as this one would."""
        joining = make_holders(self.CAPACITY_BLOCKS)
        for each in (ONE, TWO):
            use_to_prompt = {use: hashes_of(path) for use, path in self.in_use[each].items()}
            joining.adopt(each, self.holders.export(each), use_to_prompt)
            assert prefixes_of(joining.export(each)) == prefixes_of(self.holders.export(each))
        joining.add_replica(replica_id, capacity_blocks=self.CAPACITY_BLOCKS)
        self.holders = joining

    def num_matched(self, replica_id: ReplicaId, path: list[int]) -> int:
        """The longest cached prefix, counted block by block."""
        end = 0
        while end < len(path) and tuple(path[: end + 1]) in self.model[replica_id]:
            end += 1
        return end

    @rule(path=paths)
    def match(self, path: list[int]) -> None:
        """Match at both replicas at once."""
        match = self.holders.match(hashes_of(path))
        for replica_id in (ONE, TWO):
            assert match.blocks_at(replica_id) == self.num_matched(replica_id, path)

    @invariant()
    def is_sound(self) -> None:
        """No orphan, no excess, and block by block what the model has."""
        self.holders.check_integrity()
        for replica_id, held in self.model.items():
            assert self.holders.num_blocks(replica_id) == len(held)
            assert all(self.num_matched(replica_id, list(node)) == len(node) for node in held)
            assert self.used_nodes(replica_id) <= set(held)


@pytest.mark.parametrize("num_other_uses", [0, 1, 200])
@pytest.mark.parametrize("is_taken_over", [False, True])
def test_what_is_in_use_stays(*, num_other_uses: int, is_taken_over: bool) -> None:
    """However often others have used and left it, while others come and go; and once it is over, it goes as well."""
    holders, path, use = make_holders(6), [1, 1], Use()
    holders.insert(ONE, hashes_of(path), use=use)
    for _ in range(num_other_uses):
        holders.insert(ONE, hashes_of(path))
    if is_taken_over:
        joining = make_holders(6)
        joining.adopt(ONE, holders.export(ONE), {use: hashes_of(path)})
        holders = joining
    for last in range(20):
        holders.insert(ONE, hashes_of([0, last]))
        assert holders.matched_blocks(ONE, hashes_of(path)) == 2
    holders.end_use(ONE, use)
    for last in range(20, 40):
        holders.insert(ONE, hashes_of([0, last]))
    assert holders.matched_blocks(ONE, hashes_of(path)) == 0
    holders.check_integrity()


TestHoldersAgainstModel = HoldersAgainstModel.TestCase
TestHoldersAgainstModel.settings = settings(max_examples=100, stateful_step_count=40)

"""Answers are cached after their prompts, under made-up hashes."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import BlockHash, ReplicaId, RequestId, hash_blocks
from router.belief.eviction import Use
from router.belief.holders import Holders, Placed
from router.keys.blocks import unknown_hashes
from tests.builders import ROOT, prefixes_of

ONE, TWO = ReplicaId("one"), ReplicaId("two")
NO_WORK = Placed(0, 0)
replica_ids = st.sampled_from([ONE, TWO])
paths = st.lists(st.integers(0, 1), min_size=1, max_size=6).map(tuple)
Path = tuple[int, ...]


def hashes_of(path: Path) -> tuple[BlockHash, ...]:
    """One block for each number."""
    return hash_blocks(path, block_size=1, root=ROOT)


def make_holders(capacity_blocks: int) -> Holders:
    """Two replicas of equal capacity."""
    holders = Holders()
    holders.add_replica(ONE, capacity_blocks=capacity_blocks)
    holders.add_replica(TWO, capacity_blocks=capacity_blocks)
    return holders


def answer(holders: Holders, replica_id: ReplicaId, path: Path, num_blocks: int, request_id: str = "a") -> None:
    """A prompt from its decision to the end of its answer."""
    use = Use()
    holders.insert(replica_id, hashes_of(path), use=use, placed=NO_WORK)
    holders.insert_answer(replica_id, hashes_of(path), unknown_hashes(RequestId(request_id), num_blocks))
    holders.end_use(replica_id, use)
    holders.check_integrity()


@pytest.mark.parametrize(
    ("path", "num_held_blocks", "num_answer_blocks"),
    [
        ((1, 2, 3), 3, 0),  # the same prompt again: its answer is not a part of it
        ((1, 2, 3, 4), 3, 1),  # goes on for a block, which may be the answer's first
        ((1, 2, 3, 4, 5, 6, 7), 3, 2),  # goes on for longer than the answer
        ((1, 2, 9, 9), 2, 0),  # parts from the prompt before its end
        ((9,), 0, 0),  # has nothing to do with it
    ],
)
def test_who_goes_on_with_a_prompt_is_taken_to_go_on_with_its_answer(
    path: Path, num_held_blocks: int, num_answer_blocks: int
) -> None:
    """A prompt of three blocks, with an answer of two."""
    holders = make_holders(100)
    answer(holders, ONE, (1, 2, 3), 2)
    assert holders.num_blocks(ONE) == 5
    assert holders.matched_blocks(ONE, hashes_of(path)) == num_held_blocks
    assert holders.cached_blocks(ONE, hashes_of(path)).num_answer_blocks == num_answer_blocks
    assert holders.cached_blocks(TWO, hashes_of(path)).num_answer_blocks == 0
    assert holders.match(hashes_of(path)).shared_blocks == (2 if path[:2] == (1, 2) and path[2] == 9 else 0)


def test_an_answer_of_any_length_fills_a_replica_and_no_more() -> None:
    """Whatever a receipt says: what does not fit is never listed."""
    holders = make_holders(100)
    answer(holders, ONE, (1, 2, 3), 2**62)
    assert holders.num_blocks(ONE) == 100


def test_a_follow_up_brings_the_answers_real_hashes() -> None:
    """Once it is placed there, the blocks of which only the number was known are gone; elsewhere, they stay."""
    holders = make_holders(100)
    answer(holders, ONE, (1, 2, 3), 2)
    holders.insert(TWO, hashes_of((1, 2, 3, 4, 5, 6)), placed=NO_WORK)
    assert holders.num_blocks(ONE) == 5
    holders = make_holders(100)
    answer(holders, ONE, (1, 2, 3), 2)
    holders.insert(ONE, hashes_of((1, 2, 3, 4, 5, 6)), placed=NO_WORK)
    assert holders.num_blocks(ONE) == 6
    assert len(holders.export(ONE)) == 2
    assert holders.cached_blocks(ONE, hashes_of((1, 2, 3, 7))).num_answer_blocks == 0
    holders.check_integrity()


def test_the_answer_to_a_prompt_that_came_twice_is_not_counted() -> None:
    """Both answers take room, and neither is credited."""
    holders = make_holders(100)
    answer(holders, ONE, (1, 2, 3), 2, "a")
    answer(holders, ONE, (1, 2, 3), 4, "b")
    assert holders.num_blocks(ONE) == 3 + 2 + 4
    assert holders.cached_blocks(ONE, hashes_of((1, 2, 3, 4))).num_answer_blocks == 0


@pytest.mark.parametrize("capacity_blocks", [0, 1, 3, 4])
def test_an_answer_is_cached_as_far_as_there_is_room(capacity_blocks: int) -> None:
    """The prompt has three blocks, and the answer two."""
    holders = make_holders(capacity_blocks)
    answer(holders, ONE, (1, 2, 3), 2)
    assert holders.num_blocks(ONE) == capacity_blocks
    assert holders.matched_blocks(ONE, hashes_of((1, 2, 3, 4))) == min(capacity_blocks, 3)
    assert holders.cached_blocks(ONE, hashes_of((1, 2, 3, 4))).num_answer_blocks == max(0, capacity_blocks - 3)


def test_without_a_full_block_neither_prompt_nor_answer_is_cached() -> None:
    """No prompt could find its answer."""
    holders = make_holders(100)
    answer(holders, ONE, (), 5)
    assert holders.num_blocks(ONE) == 0


def test_what_is_known_from_the_engine_is_not_guessed() -> None:
    """The events of an exact replica tell of the answer's blocks."""
    holders = make_holders(100)
    holders.begin_exact(ONE, {})
    answer(holders, ONE, (1, 2, 3), 2)
    assert holders.num_blocks(ONE) == 3
    assert holders.cached_blocks(ONE, hashes_of((1, 2, 3, 4))).num_answer_blocks == 0


def test_an_answer_goes_before_its_prompt() -> None:
    """Leaves are evicted before stems: first both blocks of the answer, then the prompt from its end."""
    holders = make_holders(6)
    answer(holders, ONE, (1, 2, 3), 2)
    for num_new, expected in ((1, (3, 2)), (2, (3, 1)), (3, (3, 0)), (4, (2, 0))):
        holders.insert(ONE, hashes_of(tuple(range(50, 50 + num_new))))
        follow_up = hashes_of((1, 2, 3, 4, 5, 6))
        assert (
            holders.matched_blocks(ONE, follow_up),
            holders.cached_blocks(ONE, follow_up).num_answer_blocks,
        ) == expected
        holders.check_integrity()


class AnswersMachine(RuleBasedStateMachine):
    """Prompts and answers at two replicas with room for all, compared with the same without the answers, and with a
    naive model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.holders, self.without = make_holders(10_000), make_holders(10_000)
        self.under_way: dict[RequestId, tuple[ReplicaId, Path]] = {}
        self.uses: dict[RequestId, tuple[Use, Use]] = {}  # with the answers, and without
        self.num_requests = 0
        self.placed: Counter[Path] = Counter()
        self.held: dict[ReplicaId, set[Path]] = {ONE: {()}, TWO: {()}}
        self.answers: dict[ReplicaId, dict[Path, int]] = {ONE: {}, TWO: {}}

    def left_at(self, replica_id: ReplicaId, path: Path) -> Path:
        """The cached prefix of a path."""
        return next(path[:end] for end in range(len(path), -1, -1) if path[:end] in self.held[replica_id])

    def credited(self, replica_id: ReplicaId, path: Path) -> int:
        """Blocks of the answer to the only prompt that ended where `path` leaves the cache, if none goes on there."""
        start = self.left_at(replica_id, path)
        goes_on = any(prompt[: len(start)] == start and prompt != start for prompt in self.placed)
        if self.placed[start] != 1 or goes_on:
            return 0
        return min(self.answers[replica_id].get(start, 0), len(path) - len(start))

    @rule(replica_id=replica_ids, path=paths)
    def place(self, replica_id: ReplicaId, path: Path) -> None:
        """A request is sent; if it goes on with an answer, that one has real hashes from now on."""
        self.num_requests += 1
        request_id = RequestId(str(self.num_requests))
        if self.credited(replica_id, path):
            del self.answers[replica_id][self.left_at(replica_id, path)]
        self.uses[request_id] = Use(), Use()
        for holders, use in zip((self.holders, self.without), self.uses[request_id], strict=True):
            holders.insert(replica_id, hashes_of(path), use=use, placed=NO_WORK)
        self.placed[path] += 1
        self.held[replica_id] |= {path[:end] for end in range(len(path) + 1)}
        self.under_way[request_id] = replica_id, path

    @rule(data=st.data(), num_blocks=st.integers(0, 4))
    def end(self, data: st.DataObject, num_blocks: int) -> None:
        """A request ends, with an answer of this number of blocks."""
        if not self.under_way:
            return
        request_id = data.draw(st.sampled_from(sorted(self.under_way)))
        replica_id, path = self.under_way.pop(request_id)
        self.holders.insert_answer(replica_id, hashes_of(path), unknown_hashes(request_id, num_blocks))
        self.without.insert(replica_id, hashes_of(path))
        for holders, use in zip((self.holders, self.without), self.uses.pop(request_id), strict=True):
            holders.end_use(replica_id, use)
        if num_blocks:
            answers = self.answers[replica_id]
            answers[path] = answers.get(path, 0) + num_blocks

    @rule()
    def take_over(self) -> None:
        """A router that joins has the same estimates, and goes on as this one would."""
        joining = make_holders(10_000)
        for replica_id in (ONE, TWO):
            outstanding = {
                self.uses[request_id][0]: hashes_of(path)
                for request_id, (at, path) in self.under_way.items()
                if at == replica_id
            }
            joining.adopt(replica_id, self.holders.export(replica_id), outstanding)
            assert prefixes_of(joining.export(replica_id)) == prefixes_of(self.holders.export(replica_id))
        self.holders = joining

    @rule(path=paths)
    def match(self, path: Path) -> None:
        """No answer changes what a prompt finds, or shares with others; and what is credited beyond is the model's."""
        hashes = hashes_of(path)
        match, without = self.holders.match(hashes), self.without.match(hashes)
        assert match.shared_blocks == without.shared_blocks
        for replica_id in (ONE, TWO):
            assert match.blocks_at(replica_id) == without.blocks_at(replica_id) == len(self.left_at(replica_id, path))
            assert self.holders.cached_blocks(replica_id, hashes).num_answer_blocks == self.credited(replica_id, path)
            assert self.without.cached_blocks(replica_id, hashes).num_answer_blocks == 0

    @invariant()
    def is_sound(self) -> None:
        """Every block of an answer is cached, unless a follow-up has replaced it."""
        self.holders.check_integrity()
        for replica_id in (ONE, TWO):
            num_answer_blocks = sum(self.answers[replica_id].values())
            assert self.holders.num_blocks(replica_id) == self.without.num_blocks(replica_id) + num_answer_blocks


TestAnswersMachine = AnswersMachine.TestCase
TestAnswersMachine.settings = settings(max_examples=100, stateful_step_count=40)


@given(
    turns=st.lists(st.tuples(replica_ids, paths, st.integers(0, 30)), max_size=25), capacity_blocks=st.integers(0, 12)
)
def test_memory_is_bounded(turns: list[tuple[ReplicaId, Path, int]], capacity_blocks: int) -> None:
    """However long answers are, no replica is estimated to have more cached than fits."""
    holders = make_holders(capacity_blocks)
    for number, (replica_id, path, num_blocks) in enumerate(turns):
        answer(holders, replica_id, path, num_blocks, str(number))
        assert holders.num_blocks(replica_id) <= capacity_blocks
        follow_up = hashes_of((*path, 7, 7))
        credited_blocks = holders.cached_blocks(replica_id, follow_up).num_answer_blocks
        assert holders.matched_blocks(replica_id, follow_up) + credited_blocks <= min(capacity_blocks, len(follow_up))

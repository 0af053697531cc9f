"""What a replica does when it leaves, and when another one leaves; among heirs that are played."""

import asyncio
from array import array
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given as given_by_hypothesis
from hypothesis import strategies as st

from router import BlockHash, ReplicaId
from serve_app.messages.delivery import DeliveryError
from serve_app.messages.receipts import BatchAnswer, Receipt, Warmed
from serve_app.replica.warmth import leave as hand_over
from serve_app.replica.warmth.leave import CAPACITY_SHARE, LEFT_AFTER_S, TAKE_OVER_S, Given, HandOver
from serve_app.replica.warmth.recent_prompts import RecentPrompts
from tests.serve_app.replica.warmth.test_recent_prompts import BLOCK_SIZE, keys, tokens

KNOWN, UNKNOWN, UNDECIDED = BatchAnswer.KNOWN, BatchAnswer.UNKNOWN, BatchAnswer.UNDECIDED

ME, OTHER = ReplicaId("me"), ReplicaId("other")


class FakeHeirs:
    """Every prompt is for the other one."""

    def __init__(self) -> None:
        self.given: dict[ReplicaId, list[Given]] = {}
        self.is_absent = False

    async def places_of(self, prompts: Sequence[Sequence[BlockHash]]) -> list[ReplicaId]:
        """Every prompt goes to the other replica."""
        if self.is_absent:
            raise DeliveryError("no one")
        return [OTHER] * len(prompts)

    async def give(self, replica_to_prompts: Mapping[ReplicaId, Sequence[Given]]) -> None:
        """Note it."""
        self.given |= {replica_id: list(prompts) for replica_id, prompts in replica_to_prompts.items()}


class Replica:
    """A replica whose clock stands, with an engine that notes what it computes, and a list of receipts."""

    def __init__(self, heirs: FakeHeirs, *, max_tokens: int = 1000) -> None:
        self.now_s = 0.0
        self.prompts = RecentPrompts(model="m", block_size=BLOCK_SIZE, max_tokens=1000, clock=lambda: self.now_s)
        self.computed: list[list[int]] = []
        self.receipts: list[Receipt] = []
        self.is_busy = False
        self.hand_over = HandOver(
            ME,
            self.prompts,
            heirs,
            prefill=self._prefill,
            report=self.receipts.append,
            is_busy=lambda: self.is_busy,
            max_tokens=max_tokens,
            clock=lambda: self.now_s,
        )

    async def _prefill(self, token_ids: Sequence[int]) -> bool:
        self.computed.append(list(token_ids))
        return True

    async def settle(self) -> None:
        """Until nothing is under way."""
        while self.hand_over.tasks:
            await asyncio.gather(*self.hand_over.tasks)


def warmed(*blocks: int) -> Warmed:
    """Its receipt."""
    return Warmed(tuple(map(BlockHash, keys(*blocks))))


async def test_one_that_leaves_gives_its_conversations_away() -> None:
    """Once no router has known it for a while; the last served first, and only once."""
    heirs = FakeHeirs()
    replica = Replica(heirs)
    replica.prompts.add(tokens(1, 2))
    replica.now_s += 2.0
    replica.prompts.add(tokens(5))
    for answers in ([UNKNOWN], [UNDECIDED], [KNOWN, KNOWN], [KNOWN, UNKNOWN], [UNDECIDED]):
        replica.hand_over.on_membership(answers)
        await replica.settle()
        assert heirs.given == {}, "not a member yet, or still one of some router's"
        replica.now_s += LEFT_AFTER_S
    replica.hand_over.on_membership([UNKNOWN, UNKNOWN])
    await replica.settle()
    assert heirs.given == {}, "Serve may list it again in a moment"
    replica.now_s += LEFT_AFTER_S
    replica.hand_over.on_membership([UNKNOWN, UNKNOWN])
    await replica.settle()
    assert heirs.given == {OTHER: [given(5, unused_s=6 * LEFT_AFTER_S), given(1, 2, unused_s=7 * LEFT_AFTER_S)]}
    heirs.given.clear()
    replica.hand_over.on_membership([UNKNOWN])
    await replica.settle()
    assert heirs.given == {}


async def test_a_failed_hand_over_is_no_more_than_that() -> None:
    """Streams go on."""
    heirs = FakeHeirs()
    heirs.is_absent = True
    replica = Replica(heirs)
    replica.prompts.add(tokens(1, 2))
    replica.hand_over.on_membership([KNOWN])
    for _ in range(2):
        replica.hand_over.on_membership([UNKNOWN])
        replica.now_s += LEFT_AFTER_S
    await replica.settle()
    assert heirs.given == {}


def given(*blocks: int, unused_s: float = 1.0) -> Given:
    """A prompt of so many full blocks."""
    return Given(array("I", tokens(*blocks, rest=0)).tobytes(), unused_s)


async def test_what_is_taken_over_is_computed_and_told() -> None:
    """Only what is ours, the last served first; it counts as used when it was, and can be given on."""
    replica = Replica(FakeHeirs())
    replica.now_s = 100.0
    replica.prompts.add(tokens(7))
    replica.hand_over.take_over({ME: [given(1, 2, unused_s=9), given(3, unused_s=4)], OTHER: [given(9)]})
    await replica.settle()
    assert replica.computed == [tokens(3, rest=0), tokens(1, 2, rest=0)]
    assert replica.receipts == [warmed(3), warmed(1, 2)]
    assert [(each.block_hashes, each.used_s) for each in replica.prompts.newest_first()] == [
        (keys(7), 100.0),
        (keys(3), 96.0),
        (keys(1, 2), 91.0),
    ]


prompts = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 100)), max_size=12)


@given_by_hypothesis(prompts, prompts, st.integers(1, 40))
async def test_only_what_fits_beside_what_was_used_later_is_computed(
    own: list[tuple[int, int]], received: list[tuple[int, int]], max_blocks: int
) -> None:
    """As one LRU of all would hold it, in nine tenths of the cache."""
    replica = Replica(FakeHeirs(), max_tokens=max_blocks * BLOCK_SIZE)
    replica.now_s = 1000.0
    for number, (size, unused_s) in enumerate(own):
        replica.prompts.add(tokens(*[1000 + number] * size), used_s=1000 - unused_s)
    replica.hand_over.take_over(
        {ME: [given(*[2000 + number] * size, unused_s=unused_s) for number, (size, unused_s) in enumerate(received)]}
    )
    await replica.settle()
    computed = {each[0] - 2000 for each in replica.computed}
    room = round(CAPACITY_SHARE * max_blocks * BLOCK_SIZE)
    for number, (size, unused_s) in enumerate(received):
        later = sum(other for other, since_s in [*own, *received] if since_s < unused_s)
        if number in computed:
            assert (later + size) * BLOCK_SIZE <= room
        else:
            as_late = sum(other for other, since_s in [*own, *received] if since_s <= unused_s)
            assert as_late * BLOCK_SIZE > room


@given_by_hypothesis(prompts, prompts, prompts, prompts, st.integers(1, 40))
async def test_what_is_computed_never_needs_more_than_its_share(
    own: list[tuple[int, int]],
    first: list[tuple[int, int]],
    second: list[tuple[int, int]],
    served_in_between: list[tuple[int, int]],
    max_blocks: int,
) -> None:
    """Two leave while clients wait, and are served; each computed prompt fits along with all that was used later."""
    replica = Replica(FakeHeirs(), max_tokens=max_blocks * BLOCK_SIZE)
    replica.now_s, replica.is_busy = 1000.0, True
    number_to_size: dict[int, tuple[int, int]] = {}

    def numbered(sizes: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
        start = len(number_to_size) + 1
        number_to_size.update(enumerate(sizes, start))
        return [(number, size, unused_s) for number, (size, unused_s) in enumerate(sizes, start)]

    mine = set()
    for number, size, unused_s in numbered(own):
        replica.prompts.add(tokens(*[number] * size), used_s=1000 - unused_s)
        mine.add(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hand_over, "PAUSE_S", 0.0)
        for sizes in (first, second):
            gifts = [given(*[number] * size, unused_s=unused_s) for number, size, unused_s in numbered(sizes)]
            replica.hand_over.take_over({ME: gifts})
            await asyncio.sleep(0)
        for number, size, unused_s in numbered(served_in_between):
            replica.prompts.add(tokens(*[number] * size), used_s=1000 - unused_s)
            mine.add(number)
        replica.is_busy = False
        await replica.settle()
    computed = {each[0] for each in replica.computed}
    assert not computed & mine, "nothing but what was received"
    room = round(CAPACITY_SHARE * max_blocks * BLOCK_SIZE)
    for number in computed:
        others = [number_to_size[other] for other in (mine | computed) - {number}]
        later = sum(size for size, unused_s in others if unused_s < number_to_size[number][1])
        assert (later + number_to_size[number][0]) * BLOCK_SIZE <= room


@pytest.mark.parametrize("waiting_s", [TAKE_OVER_S / 2, TAKE_OVER_S])
async def test_clients_come_first(monkeypatch: pytest.MonkeyPatch, waiting_s: float) -> None:
    """While some wait, nothing is computed; after too long, it never is."""
    monkeypatch.setattr(hand_over, "PAUSE_S", 0.0)
    replica = Replica(FakeHeirs())
    replica.is_busy = True
    replica.hand_over.take_over({ME: [given(1, 2), given(3)]})
    for _ in range(10):
        await asyncio.sleep(0)
    assert replica.computed == []
    replica.is_busy, replica.now_s = False, waiting_s
    await replica.settle()
    assert len(replica.computed) == (2 if waiting_s < TAKE_OVER_S else 0)

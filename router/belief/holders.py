"""Who is believed to hold which prefix, over one tree of prefixes.

Of most replicas this is belief: for each a queue of uses (`uses.py`), filled by decisions, corrected by receipts and
bounded by its KV capacity. Where an engine tells of every block that it stores and evicts, the replica is *exact*: it
holds what the engine said (`kv_contents.py`), and what was sent there and is outstanding, which is as good as held for
whoever is queued behind it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil
from typing import NamedTuple

from router.belief.hot_prefixes import SHARED_FROM_NUM_ENDS, HotPrefix, hot_prefixes
from router.belief.kv_contents import KvContents
from router.belief.prefix_tree import PrefixTree, Run, Step
from router.belief.uses import Uses
from router.state import HeldRun
from router.types import BlockHash, ReplicaId, RequestId

NARROW_FACTOR = 1.5
"""A prefix for which work has grown is for more replicas at once; for fewer, once they could do so much more of it."""


MAX_COPIES_FACTOR = 2
"""An engine that tells of so many times the blocks that it reported to have is not understood. Twice, not once, because
it tells of a block when it is scheduled, and what it reported may be rounded or of another tier."""


class Placed(NamedTuple):
    """A prompt's work for the replica that got it, and what a replica has on average, both as `Fading` stores them."""

    work: float
    mean_work: float


NO_WORK = Placed(0.0, 0.0)
"""A prompt is counted, for no replica."""


class LastUse(NamedTuple):
    """Of a stretch of a prompt."""

    end: int
    """Of the stretch, in blocks from the prompt's start."""
    number: int


class LastUses(NamedTuple):
    """When what one replica holds of a prompt had been used last, before it was sent there. Uses are counted."""

    now: int
    """The use that comes next."""
    stretches: tuple[LastUse, ...]
    """From the prompt's start on, so of earlier and earlier use."""

    @property
    def held_blocks(self) -> int:
        """Of the prompt."""
        return self.stretches[-1].end if self.stretches else 0

    def first_missing(self, num_found_blocks: int) -> int | None:
        """The last use of what is held after so many blocks; None if that is all."""
        return next((each.number for each in self.stretches if each.end > num_found_blocks), None)

    def is_found_from_before(self, use: int, num_found_blocks: int) -> bool:
        """Whether some of the first blocks, of so many, had not been used since another use."""
        starts = (0, *(each.end for each in self.stretches))
        return any(
            start < num_found_blocks and each.number < use for start, each in zip(starts, self.stretches, strict=False)
        )


class PrefixMatch(NamedTuple):
    """Who holds how much of a prompt, and how much of it other prompts have too."""

    steps: Sequence[Step]
    """From the prompt's start on; holders of a deeper run hold the ones before it."""
    shared_blocks: int
    """Leading blocks that begin other prompts as well, which then go on differently or end."""

    @property
    def held_blocks(self) -> int:
        """The most that anybody holds."""
        return self.steps[-1].end if self.steps else 0

    def blocks_at(self, replica_id: ReplicaId) -> int:
        """Leading blocks held at a replica."""
        for step in reversed(self.steps):
            if replica_id in step.run.holder_to_use:
                return step.end
        return 0

    def best_blocks(self, replica_ids: Collection[ReplicaId]) -> int:
        """The most that any of these replicas holds."""
        for step in reversed(self.steps):
            if any(each in replica_ids for each in step.run.holder_to_use):
                return step.end
        return 0

    def blocks_at_all(self, num_replicas: int) -> int:
        """Leading blocks that all of so many replicas hold."""
        ends = (step.end for step in reversed(self.steps) if len(step.run.holder_to_use) == num_replicas)
        return next(ends, 0)


class Held(NamedTuple):
    """Of a prompt, by one replica, in blocks."""

    num_blocks: int
    """Leading ones."""
    num_answer_blocks: int
    """After these, where the prompt goes on from another one whose answer is held: its next blocks that are the
    answer's, if it goes on with that."""


NOTHING_HELD = Held(0, 0)


class Holders:
    """Beliefs, not facts, except of replicas that are exact."""

    def __init__(self) -> None:
        self._tree = PrefixTree()
        self._replica_to_uses: dict[ReplicaId, Uses] = {}
        self._replica_to_contents: dict[ReplicaId, KvContents] = {}  # of those that are exact
        self._last_match: tuple[Sequence[BlockHash], PrefixMatch] | None = None

    def add_replica(self, replica_id: ReplicaId, *, capacity_blocks: int) -> None:
        """Start believing in a replica, or resize it; a smaller capacity evicts the oldest."""
        self._last_match = None
        uses = self._replica_to_uses.setdefault(replica_id, Uses(replica_id, self._tree))
        uses.capacity_blocks = capacity_blocks
        uses.fit()

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Forget everything about a replica."""
        self._last_match = None
        self._replica_to_contents.pop(replica_id, None)
        uses = self._replica_to_uses.pop(replica_id)
        uses.forget()

    def clear(self) -> None:
        """Forget every prefix, keep the replicas: their caches were reset. Of an exact one, its engine will tell."""
        self._last_match = None
        for replica_id, uses in self._replica_to_uses.items():
            if replica_id not in self._replica_to_contents:
                uses.forget()

    def match(self, block_hashes: Sequence[BlockHash]) -> PrefixMatch:
        """Who holds how much of this prompt. Does not count as a use."""
        if self._last_match is None or self._last_match[0] is not block_hashes:  # a decision asks several times
            steps = self._tree.path(block_hashes)
            self._last_match = block_hashes, PrefixMatch(steps, _shared_blocks(steps))
        return self._last_match[1]

    def matched_blocks(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> int:
        """Length of the longest leading run of `block_hashes` held there, in blocks. Does not count as a use."""
        return self.match(block_hashes).blocks_at(replica_id)

    def fan_out(self, block_hashes: Sequence[BlockHash]) -> int:
        """For how many replicas this prefix is by its recent work; 0 if nobody holds all of it."""
        steps = self.match(block_hashes).steps
        return steps[-1].run.fan_out if steps and steps[-1].end == len(block_hashes) else 0

    def insert(
        self,
        replica_id: ReplicaId,
        block_hashes: Sequence[BlockHash],
        *,
        used_by: RequestId | None = None,
        placed: Placed | None = None,
    ) -> None:
        """Believe that the replica holds these blocks and used them last; evicts what no longer fits.

        They are in use until `end_use`, if it is said by which request. `placed` is given once for a prompt, when it is
        sent there.
        """
        uses = self._replica_to_uses[replica_id]
        fitting = block_hashes[: uses.capacity_blocks]
        if fitting:
            steps = self.match(fitting).steps  # which a decision has asked for a moment ago
            self._last_match = None
            if placed is not None and not self.is_exact(replica_id):
                self._drop_answer(uses, steps, len(fitting))
            runs = self._tree.grow(fitting, steps)
            if placed is not None:
                _count(runs, placed)
            uses.use(runs, used_by)
            uses.fit()

    def insert_answer(
        self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], answer_hashes: Sequence[BlockHash]
    ) -> None:
        """Believe that the replica holds a prompt, and after it the blocks of its answer. Nobody knows their hashes, so
        they are given some that no other block has: they take room, and a prompt that goes on with them is known to.
        """
        uses = self._replica_to_uses[replica_id]
        fitting = block_hashes[: uses.capacity_blocks]
        if not answer_hashes or not fitting or self.is_exact(replica_id):
            self.insert(replica_id, block_hashes)
            return
        self._last_match = None
        self._tree.grow(fitting)
        whole = (*block_hashes, *answer_hashes[: uses.capacity_blocks])[: uses.capacity_blocks]
        runs = self._tree.grow(whole)
        runs[-1].is_prompt &= len(whole) <= len(block_hashes)
        uses.use(runs)
        uses.fit()

    def held(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> "Held":
        """What is held there of this prompt. Does not count as a use."""
        for step in reversed(self.match(block_hashes).steps):
            if replica_id in step.run.holder_to_use:
                answer = _answer(step, replica_id, len(block_hashes))
                if answer is None or self.is_exact(replica_id):
                    return Held(step.end, 0)
                return Held(step.end, min(len(answer), len(block_hashes) - step.end))
        return NOTHING_HELD

    def _drop_answer(self, uses: Uses, steps: Sequence[Step], num_blocks: int) -> None:
        """A prompt that goes on with an answer brings its blocks' real hashes."""
        answer = _answer(steps[-1], uses.replica_id, num_blocks) if steps else None
        if answer is not None:
            uses.release(answer)

    def end_use(self, replica_id: ReplicaId, request_id: RequestId) -> None:
        """The request is over there; what it used can be evicted."""
        self._last_match = None
        uses = self._replica_to_uses[replica_id]
        uses.end(request_id)
        uses.fit()

    def discard_after(
        self,
        replica_id: ReplicaId,
        block_hashes: Sequence[BlockHash],
        *,
        num_kept: int,
        used_by: RequestId | None = None,
    ) -> None:
        """Stop believing in this prefix beyond `num_kept` blocks, except where other prefixes build on it.

        Nor in what of it other requests use. The use of `used_by` is over.
        """
        uses = self._replica_to_uses[replica_id]
        if used_by is not None:
            uses.end(used_by)
        held = self.matched_blocks(replica_id, block_hashes)
        self._last_match = None
        if held <= num_kept:
            return
        num_spared = len(self._tree.grow(block_hashes[:num_kept]))
        runs = self._tree.grow(block_hashes[:held])
        while len(runs) > num_spared and not uses.is_needed(runs[-1]):
            uses.release(runs.pop())
        if runs:  # what stays was used a moment ago
            uses.use(runs)

    def evict_before(self, replica_id: ReplicaId, use: int) -> None:
        """Stop believing in what was used before this use, but for what is in use."""
        self._last_match = None
        self._replica_to_uses[replica_id].evict_before(use)

    def last_uses(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> LastUses:
        """When what is held there of this prompt was used last."""
        stretches = (
            LastUse(step.end, use)
            for step in self.match(block_hashes).steps
            if (use := step.run.holder_to_use.get(replica_id)) is not None
        )
        return LastUses(self._replica_to_uses[replica_id].next_number, tuple(stretches))

    def export(self, replica_id: ReplicaId) -> tuple[HeldRun, ...]:
        """What the replica is believed to hold, most recently used first, for a router that joins."""
        runs = list(self._replica_to_uses[replica_id].runs())
        runs.reverse()
        run_to_index = {id(run): index for index, run in enumerate(runs)}
        return tuple(
            HeldRun(run_to_index.get(id(run.parent)), tuple(map(BlockHash, run.hashes)), run.num_ends, run.is_prompt)
            for run in runs
        )

    def adopt(
        self,
        replica_id: ReplicaId,
        held: Iterable[HeldRun],
        request_to_prompt: Mapping[RequestId, Sequence[BlockHash]],
    ) -> None:
        """Believe what a peer believes. What is held here already counts as used later than all of that.

        What is held of these requests' prompts is in use, and is until `end_use`.
        """
        self._last_match = None
        uses = self._replica_to_uses[replica_id]
        prompts: list[tuple[BlockHash, ...]] = []
        for run in held:
            prompts.append((() if run.parent is None else prompts[run.parent]) + run.block_hashes)
            fitting = prompts[-1][: uses.capacity_blocks]
            if fitting:
                runs = self._tree.grow(fitting)
                runs[-1].num_ends = max(runs[-1].num_ends, run.num_ends)
                runs[-1].is_prompt &= run.is_prompt or len(prompts[-1]) > len(fitting) or bool(runs[-1].holder_to_use)
                uses.add_oldest(runs)
        for request_id, prompt in request_to_prompt.items():
            fitting = tuple(prompt[: uses.capacity_blocks])
            if fitting and self.matched_blocks(replica_id, fitting) == len(fitting):
                uses.go_on(self._tree.grow(fitting)[-1], request_id)
                self._last_match = None
        uses.fit()

    def is_exact(self, replica_id: ReplicaId) -> bool:
        """Whether what is held there is known from its engine."""
        return replica_id in self._replica_to_contents

    def begin_exact(self, replica_id: ReplicaId, request_to_prompt: Mapping[RequestId, Sequence[BlockHash]]) -> None:
        """The engine has nothing now, and will tell of everything from here on.

        These requests are outstanding at the replica. Their prompts are in use, and are until `end_use`.
        """
        self._last_match = None
        uses = self._replica_to_uses[replica_id]
        uses.forget()
        uses.is_bounded = False
        self._replica_to_contents[replica_id] = KvContents(uses, self._tree)
        for request_id, prompt in request_to_prompt.items():
            self.insert(replica_id, prompt, used_by=request_id)

    def end_exact(self, replica_id: ReplicaId) -> None:
        """From now on the replica is believed in like others. What it was known to hold it may still hold."""
        if self._replica_to_contents.pop(replica_id, None) is not None:
            self._last_match = None
            uses = self._replica_to_uses[replica_id]
            uses.is_bounded = True
            uses.fit()

    def store(self, replica_id: ReplicaId, parent: BlockHash | None, block_hashes: Sequence[BlockHash]) -> None:
        """An engine stored these blocks, each on top of the one before. Means nothing unless the replica is exact.

        More blocks than could be in its memory cannot be true, so they end its being exact.
        """
        contents = self._replica_to_contents.get(replica_id)
        if contents is None or not block_hashes:
            return
        self._last_match = None
        contents.store(parent, block_hashes)
        if contents.num_copies > MAX_COPIES_FACTOR * self._replica_to_uses[replica_id].capacity_blocks:
            self.end_exact(replica_id)

    def remove(
        self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], promised: Collection[Sequence[BlockHash]]
    ) -> None:
        """An engine evicted these blocks. Means nothing unless the replica is exact.

        `promised` are the prompts that are outstanding at the replica.
        """
        contents = self._replica_to_contents.get(replica_id)
        if contents is not None:
            self._last_match = None
            contents.remove(block_hashes, promised)

    def keep_stored(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], *, used_by: RequestId) -> None:
        """A request is not outstanding at an exact replica any more: of its prompt, only what the engine has is held,
        and what others use.
        """
        if block_hashes:
            num_stored = self._replica_to_contents[replica_id].num_stored(block_hashes)
            self.discard_after(replica_id, block_hashes, num_kept=num_stored, used_by=used_by)

    def scale_work(self, factor: float) -> None:
        """Follow `Fading` into a new epoch."""
        for run in self._tree.runs():
            run.work *= factor

    def hot_prefixes(self, limit: int, *, total_work: float) -> list[HotPrefix]:
        """Where most of the recent work, which is `total_work` in all, began alike; the most first."""
        return hot_prefixes(self._tree.beginnings, limit=limit, total_work=total_work)

    def num_blocks(self, replica_id: ReplicaId) -> int:
        """Blocks believed to be held there."""
        return self._replica_to_uses[replica_id].num_blocks

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        self._tree.check_integrity()
        for uses in self._replica_to_uses.values():
            uses.check_integrity()
        for contents in self._replica_to_contents.values():
            contents.check_integrity()

    def check_exact(self, replica_id: ReplicaId, promised: Iterable[Sequence[BlockHash]]) -> None:
        """Assert that an exact replica holds nothing but what is stored or promised."""
        known = set(self._replica_to_contents[replica_id].stored()).union(*promised)
        held = {each for run in self._replica_to_uses[replica_id].runs() for each in run.hashes}
        assert held <= known, f"{len(held - known)} blocks are held, and neither stored nor promised"


def _count(runs: Sequence[Run], placed: Placed) -> None:
    """A new prompt of these runs. A prefix is for as many replicas as its work would fill to the mean."""
    runs[-1].num_ends += 1
    for run in runs:
        run.is_prompt = True
        run.work += placed.work
        num_replicas = run.work / placed.mean_work if placed.mean_work else 0.0
        narrowed = min(run.fan_out, ceil(NARROW_FACTOR * num_replicas))
        run.fan_out = max(1, ceil(num_replicas), narrowed)


def _answer(step: Step, replica_id: ReplicaId, num_blocks: int) -> Run | None:
    """What a replica holds of the answer to the one prompt that ended with this step, where a longer one goes on."""
    run = step.run
    if not step.is_whole or step.end >= num_blocks or run.num_ends != 1:
        return None
    if any(child.is_prompt for child in run.children.values()):  # other prompts go on otherwise
        return None
    return next((child for child in run.children.values() if replica_id in child.holder_to_use), None)


def _shared_blocks(steps: Sequence[Step]) -> int:
    """Down to where, seen from the prompt's own end, other prompts first part from it or end in great number."""
    own_child = None
    for step in reversed(steps):
        if not step.is_whole:
            if step.run.is_prompt:
                return step.end  # another prompt goes on from here
        elif step.run.num_ends >= SHARED_FROM_NUM_ENDS or _has_other_prompt(step.run, own_child):
            return step.end
        own_child = step.run
    return 0


def _has_other_prompt(run: Run, own_child: Run | None) -> bool:
    """Whether a prompt goes on from a run otherwise than by this child."""
    return len(run.children) > (own_child is not None) and any(
        child.is_prompt and child is not own_child for child in run.children.values()
    )

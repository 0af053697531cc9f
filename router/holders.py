"""Who is believed to hold which prefix: for each replica an LRU of prompts, over one tree of prefixes.

Whoever uses a prompt uses all of its blocks, so an LRU of blocks need not list blocks: it is a queue of uses, each with
its prompt's last run. A run belongs to the last use that passed over it. Eviction takes the oldest use and what belongs
to it, from its end towards its start: leaves before stems, block by block, as vLLM's free-block queue does
(`KVCacheManager.free` returns a request's blocks in reverse order).
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count
from math import ceil
from typing import NamedTuple

from router.prefix_tree import PrefixTree, Run, Step
from router.state import HeldRun
from router.types import BlockHash, ReplicaId

SHARED_FROM_NUM_ENDS = 4
"""So many prompts ending in one block are several requests with a common beginning and short questions; a
conversation's own turns are seldom that short."""


NARROW_FACTOR = 1.5
"""A prefix for which work has grown is for more replicas at once; for fewer, once they could do so much more of it."""


class Placed(NamedTuple):
    """A prompt's work for the replica that got it, and what a replica has on average, both as `Fading` stores them."""

    work: float
    mean_work: float


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


class Holders:
    """Beliefs, not facts: filled by decisions, corrected by receipts, bounded by each replica's KV capacity."""

    def __init__(self) -> None:
        self._tree = PrefixTree()
        self._replica_to_uses: dict[ReplicaId, _Uses] = {}
        self._use_numbers = count(1)
        self._last_match: tuple[Sequence[BlockHash], PrefixMatch] | None = None

    def add_replica(self, replica_id: ReplicaId, *, capacity_blocks: int) -> None:
        """Start believing in a replica, or resize it; a smaller capacity evicts the oldest."""
        self._last_match = None
        uses = self._replica_to_uses.setdefault(replica_id, _Uses(replica_id, self._tree))
        uses.capacity_blocks = capacity_blocks
        uses.evict(uses.num_blocks - capacity_blocks)

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Forget everything about a replica."""
        self._last_match = None
        uses = self._replica_to_uses.pop(replica_id)
        uses.evict(uses.num_blocks)

    def clear(self) -> None:
        """Forget every prefix, keep the replicas: their caches were reset."""
        self._last_match = None
        for uses in self._replica_to_uses.values():
            uses.evict(uses.num_blocks)

    def match(self, block_hashes: Sequence[BlockHash]) -> PrefixMatch:
        """Who holds how much of this prompt. Does not count as a use."""
        if self._last_match is None or self._last_match[0] is not block_hashes:  # a decision asks several times
            steps = self._tree.path(block_hashes)
            self._last_match = block_hashes, PrefixMatch(steps, _shared_blocks(steps))
        return self._last_match[1]

    def matched_blocks(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> int:
        """Length of the longest leading run of `block_hashes` held there, in blocks. Does not count as a use."""
        return self.match(block_hashes).blocks_at(replica_id)

    def insert(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], *, placed: Placed | None = None) -> None:
        """Believe that the replica holds these blocks and used them last; evicts what no longer fits.

        `placed` is given once for a prompt, when it is sent there.
        """
        self._last_match = None
        uses = self._replica_to_uses[replica_id]
        fitting = block_hashes[: uses.capacity_blocks]
        if fitting:
            runs = self._tree.grow(fitting)
            if placed is not None:
                _count(runs, placed)
            uses.use(runs, next(self._use_numbers))
            uses.evict(uses.num_blocks - uses.capacity_blocks)

    def discard_after(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], *, num_kept: int) -> None:
        """Stop believing in this prefix beyond `num_kept` blocks, except where other prefixes build on it."""
        uses = self._replica_to_uses[replica_id]
        held = min(self.matched_blocks(replica_id, block_hashes), uses.capacity_blocks)
        self._last_match = None
        if held <= num_kept:
            return
        num_spared = len(self._tree.grow(block_hashes[:num_kept]))
        runs = self._tree.grow(block_hashes[:held])
        while len(runs) > num_spared and not uses.has_child(runs[-1]):
            uses.release(runs.pop())
        if runs:  # what stays was used a moment ago
            uses.use(runs, next(self._use_numbers))

    def evict_oldest(self, replica_id: ReplicaId, num_blocks: int) -> None:
        """Stop believing in the blocks that were used longest ago."""
        self._last_match = None
        self._replica_to_uses[replica_id].evict(num_blocks)

    def export(self, replica_id: ReplicaId) -> tuple[HeldRun, ...]:
        """What the replica is believed to hold, most recently used first, for a router that joins."""
        runs = list(self._replica_to_uses[replica_id].runs())
        runs.reverse()
        run_to_index = {id(run): index for index, run in enumerate(runs)}
        return tuple(
            HeldRun(run_to_index.get(id(run.parent)), tuple(map(BlockHash, run.hashes)), run.num_ends) for run in runs
        )

    def adopt(self, replica_id: ReplicaId, held: Iterable[HeldRun]) -> None:
        """Believe what a peer believes. What is held here already counts as used later than all of that."""
        self._last_match = None
        uses = self._replica_to_uses[replica_id]
        prompts: list[tuple[BlockHash, ...]] = []
        for run in held:
            prompts.append((() if run.parent is None else prompts[run.parent]) + run.block_hashes)
            fitting = prompts[-1][: uses.capacity_blocks]
            if fitting:
                runs = self._tree.grow(fitting)
                runs[-1].num_ends = max(runs[-1].num_ends, run.num_ends)
                uses.add_oldest(runs, next(self._use_numbers))
        uses.evict(uses.num_blocks - uses.capacity_blocks)

    def scale_work(self, factor: float) -> None:
        """Follow `Fading` into a new epoch."""
        for run in self._tree.runs():
            run.work *= factor

    def capacity_blocks(self, replica_id: ReplicaId) -> int:
        """Blocks that fit there."""
        return self._replica_to_uses[replica_id].capacity_blocks

    def num_blocks(self, replica_id: ReplicaId) -> int:
        """Blocks believed to be held there."""
        return self._replica_to_uses[replica_id].num_blocks

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        self._tree.check_integrity()
        for uses in self._replica_to_uses.values():
            uses.check_integrity()


class _Use(NamedTuple):
    number: int
    last_run: Run


class _Uses:
    """One replica's uses, oldest first. Those whose runs all belong to later uses by now are passed over."""

    def __init__(self, replica_id: ReplicaId, tree: PrefixTree) -> None:
        self._replica_id = replica_id
        self._tree = tree
        self._queue: deque[_Use] = deque()
        self._compact_at = 64
        self.capacity_blocks = 0
        self.num_blocks = 0

    def use(self, runs: Sequence[Run], number: int) -> None:
        """A prompt of these runs was used now."""
        for run in runs:
            if self._replica_id not in run.holder_to_use:
                self.num_blocks += len(run)
            run.holder_to_use[self._replica_id] = number
        self._queue.append(_Use(number, runs[-1]))
        self._compact()

    def add_oldest(self, runs: Sequence[Run], number: int) -> None:
        """A prompt was used before all others; what of it later ones used stays theirs."""
        new = [run for run in runs if self._replica_id not in run.holder_to_use]
        for run in new:
            run.holder_to_use[self._replica_id] = number
            self.num_blocks += len(run)
        if new:
            self._queue.appendleft(_Use(number, new[-1]))

    def evict(self, num_blocks: int) -> None:
        """Release the blocks that were used longest ago."""
        num_left = min(num_blocks, self.num_blocks)
        while num_left > 0:
            number, run = self._queue.popleft()
            while num_left > 0 and run.holder_to_use.get(self._replica_id) == number:
                if len(run) > num_left:
                    run = self._shorten(run, num_left)
                    num_left = 0
                else:
                    num_left -= len(run)
                    run = self.release(run)
            if run.holder_to_use.get(self._replica_id) == number:
                self._queue.appendleft(_Use(number, run))

    def release(self, run: Run) -> Run:
        """Hold the run no more; returns its parent."""
        assert run.parent is not None
        self.num_blocks -= len(run)
        self._tree.release(run, self._replica_id)
        return run.parent

    def has_child(self, run: Run) -> bool:
        """Whether something held builds on the run."""
        return any(self._replica_id in child.holder_to_use for child in run.children.values())

    def runs(self) -> Iterator[Run]:
        """What is held, in the order in which it would be evicted."""
        for number, last_run in self._queue:
            run = last_run
            while run.holder_to_use.get(self._replica_id) == number:
                yield run
                assert run.parent is not None
                run = run.parent

    def _shorten(self, run: Run, num_blocks: int) -> Run:
        """Release the last blocks of a run; returns the run that is left."""
        if len(run.holder_to_use) > 1:  # others hold all of it
            upper = self._tree.split(run, len(run) - num_blocks)
            self.release(run)
            return upper
        del run.hashes[-num_blocks:]
        run.num_ends = 0
        self.num_blocks -= num_blocks
        return run

    def _compact(self) -> None:
        """Drop uses to which nothing belongs any more, once they are the larger part."""
        if len(self._queue) < self._compact_at:
            return
        kept = [use for use in self._queue if use.last_run.holder_to_use.get(self._replica_id) == use.number]
        self._queue = deque(kept)
        self._compact_at = max(64, 2 * len(kept))

    def check_integrity(self) -> None:
        held = [run for run in self._tree.runs() if self._replica_id in run.holder_to_use]
        assert self.num_blocks == sum(map(len, held)), f"{self.num_blocks} blocks counted, {sum(map(len, held))} held"
        assert self.num_blocks <= self.capacity_blocks, f"{self.num_blocks} blocks, capacity {self.capacity_blocks}"
        listed = list(map(id, self.runs()))
        assert len(listed) == len(set(listed)), "a run would be evicted twice"
        assert set(listed) == set(map(id, held)), "runs are held that would never be evicted"


def _count(runs: Sequence[Run], placed: Placed) -> None:
    """A new prompt of these runs. A prefix is for as many replicas as its work would fill to the mean."""
    runs[-1].num_ends += 1
    for run in runs:
        run.work += placed.work
        num_replicas = run.work / placed.mean_work if placed.mean_work else 0.0
        narrowed = min(run.fan_out, ceil(NARROW_FACTOR * num_replicas))
        run.fan_out = max(1, ceil(num_replicas), narrowed)


def _shared_blocks(steps: Sequence[Step]) -> int:
    """Down to where, seen from the prompt's own end, other prompts first part from it or end in great number."""
    has_own_child = False  # the next run on the prompt's own path is one of the children
    for step in reversed(steps):
        if not step.is_whole:
            return step.end  # another prompt goes on from here
        if len(step.run.children) > has_own_child or step.run.num_ends >= SHARED_FROM_NUM_ENDS:
            return step.end
        has_own_child = True
    return 0

"""Which replica has which prefix cached, over one tree of prefixes.

For most replicas this is an estimate: a queue of uses (`uses.py`), filled by decisions, corrected by receipts and
bounded by the replica's KV capacity. Where an engine tells of every block that it stores and evicts, the replica is
*exact*: its cache is what the engine said (`kv_contents.py`), and the prompts that are outstanding there, which are as
good as cached for any request that is queued behind them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil
from typing import NamedTuple

from router.belief.eviction import EvictionOrder, Use
from router.belief.hot_prefixes import SHARED_FROM_NUM_ENDS, HotPrefix, hot_prefixes
from router.belief.kv_contents import KvContents
from router.belief.match import NOTHING_CACHED, CachedBlocks, LastUse, LastUses, PrefixMatch
from router.belief.prefix_tree import PrefixTree, Run, Step
from router.state import HeldRun
from router.types import BlockHash, ReplicaId

NARROW_FACTOR = 1.5
"""A prefix is for more replicas as soon as its work has grown; for fewer, once these could do this multiple of it."""
MAX_COPIES_FACTOR = 2
"""An engine is not understood that tells of more blocks than this multiple of its capacity. It is two, not one, because
it tells of a block when it is scheduled, and its reported capacity may be rounded or that of another tier."""


class Placed(NamedTuple):
    """A prompt's work for its replica, and the mean work of a replica, both as `Fading` stores them."""

    work: float
    mean_work: float


NO_WORK = Placed(0.0, 0.0)
"""The prompt is counted, but its work is for no replica."""


class Holders:
    """The cached prefixes of every replica: estimates, except for the replicas that are exact."""

    def __init__(self) -> None:
        self._tree = PrefixTree()
        self._replica_to_uses: dict[ReplicaId, EvictionOrder] = {}
        self._replica_to_contents: dict[ReplicaId, KvContents] = {}  # the exact ones
        self._last_match: tuple[Sequence[BlockHash], PrefixMatch] | None = None

    def add_replica(self, replica_id: ReplicaId, *, capacity_blocks: int) -> None:
        """Start to estimate a replica's cache, or resize it; a smaller capacity evicts the oldest blocks."""
        self._last_match = None
        uses = self._replica_to_uses.setdefault(replica_id, EvictionOrder(replica_id, self._tree))
        uses.capacity_blocks = capacity_blocks
        uses.fit()

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Forget everything about a replica."""
        self._last_match = None
        self._replica_to_contents.pop(replica_id, None)
        self._replica_to_uses.pop(replica_id).forget()

    def clear(self) -> None:
        """Forget every prefix and keep the replicas: their caches were reset. The engine of an exact one will tell."""
        self._last_match = None
        for replica_id, uses in self._replica_to_uses.items():
            if replica_id not in self._replica_to_contents:
                uses.forget()

    # What is cached

    def match(self, block_hashes: Sequence[BlockHash]) -> PrefixMatch:
        """The replicas that have a prefix of this prompt cached. Does not count as a use."""
        if self._last_match is None or self._last_match[0] is not block_hashes:  # a decision asks several times
            steps = self._tree.path(block_hashes)
            self._last_match = block_hashes, PrefixMatch(steps, _shared_blocks(steps))
        return self._last_match[1]

    def matched_blocks(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> int:
        """The longest prefix of `block_hashes` that a replica has cached, in blocks. Does not count as a use."""
        return self.match(block_hashes).blocks_at(replica_id)

    def cached_blocks(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> CachedBlocks:
        """The part of this prompt that a replica has cached, an earlier answer included. Does not count as a use."""
        for step in reversed(self.match(block_hashes).steps):
            if replica_id in step.run.holder_to_use:
                answer = _answer(step, replica_id, len(block_hashes))
                if answer is None or self.is_exact(replica_id):
                    return CachedBlocks(step.end, 0)
                return CachedBlocks(step.end, min(len(answer), len(block_hashes) - step.end))
        return NOTHING_CACHED

    def last_uses(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> LastUses:
        """The last uses of the part of this prompt that a replica has cached."""
        stretches = (
            LastUse(step.end, use)
            for step in self.match(block_hashes).steps
            if (use := step.run.holder_to_use.get(replica_id)) is not None
        )
        return LastUses(self._replica_to_uses[replica_id].next_number, tuple(stretches))

    def hot_prefixes(self, limit: int, *, total_work: float) -> list[HotPrefix]:
        """The common prefixes of most of the recent work, which is `total_work` in all; the hottest first."""
        return hot_prefixes(self._tree.first_runs, limit=limit, total_work=total_work)

    def num_blocks(self, replica_id: ReplicaId) -> int:
        """Cached blocks of a replica."""
        return self._replica_to_uses[replica_id].num_blocks

    # What happens to it

    def insert(
        self,
        replica_id: ReplicaId,
        block_hashes: Sequence[BlockHash],
        *,
        use: Use | None = None,
        placed: Placed | None = None,
    ) -> None:
        """Cache these blocks at a replica, as the last used ones; evicts the blocks that no longer fit.

        They are in use until `end_use`, if a `use` is given. `placed` is given once for a prompt, when it is sent
        there.
        """
        uses = self._replica_to_uses[replica_id]
        fitting = block_hashes[: uses.capacity_blocks]
        if fitting:
            steps = self.match(fitting).steps  # for which a decision has asked a moment ago
            self._last_match = None
            if placed is not None and not self.is_exact(replica_id):
                self._drop_answer(uses, steps, len(fitting))
            runs = self._tree.grow(fitting, steps)
            if placed is not None:
                _count(runs, placed)
            uses.use(runs, use)
            uses.fit()

    def insert_answer(
        self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], answer_hashes: Sequence[BlockHash]
    ) -> None:
        """Cache a prompt at a replica, and after it the blocks of its answer.

        The answer's real hashes are unknown, so it is given hashes that no other block has. They take room, and show
        that the answer is cached to a prompt that may go on with it.
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

    def end_use(self, replica_id: ReplicaId, use: Use) -> None:
        """End a request's use: its blocks can be evicted."""
        self._last_match = None
        uses = self._replica_to_uses[replica_id]
        uses.end(use)
        uses.fit()

    def discard_after(
        self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], *, num_kept: int, use: Use | None = None
    ) -> None:
        """Drop this prefix beyond `num_kept` blocks from a cache, and end the `use`.

        Blocks stay on which other cached prefixes build, or that other requests use.
        """
        uses = self._replica_to_uses[replica_id]
        if use is not None:
            uses.end(use)
        num_cached = self.matched_blocks(replica_id, block_hashes)
        self._last_match = None
        if num_cached <= num_kept:
            return
        num_spared = len(self._tree.grow(block_hashes[:num_kept]))
        runs = self._tree.grow(block_hashes[:num_cached])
        while len(runs) > num_spared and not uses.is_needed(runs[-1]):
            uses.release(runs.pop())
        if runs:  # what stays was used a moment ago
            uses.use(runs)

    def evict_before(self, replica_id: ReplicaId, use: int) -> None:
        """Evict the blocks that were used before this use, except those in use."""
        self._last_match = None
        self._replica_to_uses[replica_id].evict_before(use)

    def scale_work(self, factor: float) -> None:
        """Follow `Fading` into a new epoch."""
        for run in self._tree.runs():
            run.work *= factor

    # A router that joins

    def export(self, replica_id: ReplicaId) -> tuple[HeldRun, ...]:
        """A replica's cached runs, most recently used first, for a router that joins."""
        runs = list(self._replica_to_uses[replica_id].runs())
        runs.reverse()
        run_to_index = {id(run): index for index, run in enumerate(runs)}
        return tuple(
            HeldRun(run_to_index.get(id(run.parent)), tuple(map(BlockHash, run.hashes)), run.num_ends, run.is_prompt)
            for run in runs
        )

    def adopt(
        self, replica_id: ReplicaId, held: Iterable[HeldRun], use_to_prompt: Mapping[Use, Sequence[BlockHash]]
    ) -> None:
        """Take over a peer's estimate. Blocks that are cached here already count as used later than all of it.

        The prompts of these uses are in use until `end_use`, as far as they are cached.
        """
        self._last_match = None
        uses = self._replica_to_uses[replica_id]
        prompts: list[tuple[BlockHash, ...]] = []
        for run in held:
            prompts.append((() if run.parent is None else prompts[run.parent]) + run.block_hashes)
            self._adopt_run(uses, prompts[-1], run)
        for use, prompt in use_to_prompt.items():
            fitting = tuple(prompt[: uses.capacity_blocks])
            if fitting and self.matched_blocks(replica_id, fitting) == len(fitting):
                uses.go_on(self._tree.grow(fitting)[-1], use)
                self._last_match = None
        uses.fit()

    def _adopt_run(self, uses: EvictionOrder, prompt: tuple[BlockHash, ...], run: HeldRun) -> None:
        fitting = prompt[: uses.capacity_blocks]
        if fitting:
            runs = self._tree.grow(fitting)
            runs[-1].num_ends = max(runs[-1].num_ends, run.num_ends)
            runs[-1].is_prompt &= run.is_prompt or len(prompt) > len(fitting) or bool(runs[-1].holder_to_use)
            uses.add_oldest(runs)

    # Exact replicas

    def is_exact(self, replica_id: ReplicaId) -> bool:
        """Whether a replica's cache is known from its engine."""
        return replica_id in self._replica_to_contents

    def begin_exact(self, replica_id: ReplicaId, use_to_prompt: Mapping[Use, Sequence[BlockHash]]) -> None:
        """The engine's cache is empty now, and the engine will tell of everything from here on.

        These prompts are outstanding at the replica, and in use until `end_use`.
        """
        self._last_match = None
        uses = self._replica_to_uses[replica_id]
        uses.forget()
        uses.is_bounded = False
        self._replica_to_contents[replica_id] = KvContents(uses, self._tree)
        for use, prompt in use_to_prompt.items():
            self.insert(replica_id, prompt, use=use)

    def end_exact(self, replica_id: ReplicaId) -> None:
        """Estimate the replica's cache like others from now on. Its known contents may still be there."""
        if self._replica_to_contents.pop(replica_id, None) is not None:
            self._last_match = None
            uses = self._replica_to_uses[replica_id]
            uses.is_bounded = True
            uses.fit()

    def store(self, replica_id: ReplicaId, parent: BlockHash | None, block_hashes: Sequence[BlockHash]) -> None:
        """An engine stored these blocks, each on top of the one before. Means nothing unless the replica is exact.

        More blocks than its memory can contain cannot be true, so they end its being exact.
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

    def keep_stored(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash], *, use: Use) -> None:
        """A prompt is not outstanding at an exact replica any more: keep the blocks that the engine has stored.

        Blocks that others use stay, too.
        """
        if block_hashes:
            num_stored = self._replica_to_contents[replica_id].num_stored(block_hashes)
            self.discard_after(replica_id, block_hashes, num_kept=num_stored, use=use)

    def _drop_answer(self, uses: EvictionOrder, steps: Sequence[Step], num_blocks: int) -> None:
        """Drop an answer's made-up hashes: a prompt that goes on with it brings its blocks' real hashes."""
        answer = _answer(steps[-1], uses.replica_id, num_blocks) if steps else None
        if answer is not None:
            uses.release(answer)

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        self._tree.check_integrity()
        for uses in self._replica_to_uses.values():
            uses.check_integrity()
        for contents in self._replica_to_contents.values():
            contents.check_integrity()

    def check_exact(self, replica_id: ReplicaId, promised: Iterable[Sequence[BlockHash]]) -> None:
        """Assert that an exact replica has nothing cached but what is stored or promised."""
        known = set(self._replica_to_contents[replica_id].stored()).union(*promised)
        cached = {block_hash for run in self._replica_to_uses[replica_id].runs() for block_hash in run.hashes}
        assert cached <= known, f"{len(cached - known)} blocks are cached, and neither stored nor promised"


def _count(runs: Sequence[Run], placed: Placed) -> None:
    """Count a new prompt of these runs. A prefix is for as many replicas as its work would fill to the mean."""
    runs[-1].num_ends += 1
    for run in runs:
        run.is_prompt = True
        run.work += placed.work
        num_replicas = run.work / placed.mean_work if placed.mean_work else 0.0
        narrowed = min(run.fan_out, ceil(NARROW_FACTOR * num_replicas))
        run.fan_out = max(1, ceil(num_replicas), narrowed)


def _answer(step: Step, replica_id: ReplicaId, num_blocks: int) -> Run | None:
    """The replica's cached answer to the only prompt that ended with this step, where a longer prompt goes on."""
    run = step.run
    if not step.is_whole or step.end >= num_blocks or run.num_ends != 1:
        return None
    if any(child.is_prompt for child in run.children.values()):  # other prompts go on otherwise
        return None
    return next((child for child in run.children.values() if replica_id in child.holder_to_use), None)


def _shared_blocks(steps: Sequence[Step]) -> int:
    """The depth at which, seen from the prompt's own end, other prompts first branch off or end in great number."""
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

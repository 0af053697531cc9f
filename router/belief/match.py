"""The parts of a prompt that replicas have cached, and the last uses of these parts."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from router.belief.prefix_tree import Step
from router.types import ReplicaId


class PrefixMatch(NamedTuple):
    """The replicas that have a prefix of a prompt cached, and the prefix that other prompts share."""

    steps: Sequence[Step]
    """The cached runs from the prompt's start on; holders of a deeper run hold the ones before it."""
    shared_blocks: int
    """Leading blocks that other prompts begin with as well, before they go on differently or end."""

    @property
    def cached_blocks(self) -> int:
        """The longest prefix that any replica has cached, in blocks."""
        return self.steps[-1].end if self.steps else 0

    def blocks_at(self, replica_id: ReplicaId) -> int:
        """Leading blocks that a replica has cached."""
        for step in reversed(self.steps):
            if replica_id in step.run.holder_to_use:
                return step.end
        return 0

    def best_blocks(self, replica_ids: Collection[ReplicaId]) -> int:
        """The longest prefix that any of these replicas has cached, in blocks."""
        for step in reversed(self.steps):
            if any(holder in replica_ids for holder in step.run.holder_to_use):
                return step.end
        return 0

    def blocks_at_all(self, num_replicas: int) -> int:
        """Leading blocks that all of `num_replicas` replicas have cached."""
        ends = (step.end for step in reversed(self.steps) if len(step.run.holder_to_use) == num_replicas)
        return next(ends, 0)


class CachedBlocks(NamedTuple):
    """The part of a prompt that one replica has cached, in blocks."""

    num_blocks: int
    """Leading blocks."""
    num_answer_blocks: int
    """Blocks after these that are cached if the prompt goes on with the answer to an earlier prompt."""


NOTHING_CACHED = CachedBlocks(0, 0)


class LastUse(NamedTuple):
    """The last use of a stretch of a prompt."""

    end: int
    """The end of the stretch, in blocks from the prompt's start."""
    number: int


class LastUses(NamedTuple):
    """The last uses of what one replica has cached of a prompt, before the prompt was sent there. Uses are counted."""

    now: int
    """The number of the next use."""
    stretches: tuple[LastUse, ...]
    """The stretches from the prompt's start on, so of earlier and earlier use."""

    @property
    def cached_blocks(self) -> int:
        """Leading blocks that were cached."""
        return self.stretches[-1].end if self.stretches else 0

    def first_missing(self, num_found_blocks: int) -> int | None:
        """The last use of the cached blocks after the first `num_found_blocks`; None if there are none."""
        return next((stretch.number for stretch in self.stretches if stretch.end > num_found_blocks), None)

    def is_found_from_before(self, use: int, num_found_blocks: int) -> bool:
        """Whether some of the first `num_found_blocks` had not been used since another use."""
        starts = (0, *(stretch.end for stretch in self.stretches))
        return any(
            start < num_found_blocks and stretch.number < use
            for start, stretch in zip(starts, self.stretches, strict=False)
        )

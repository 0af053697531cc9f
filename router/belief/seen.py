"""What replicas have held at any time, as far as is remembered: tells new prefixes from lost ones.

An LRU of all prompts that were computed, several times larger than all caches together, in the form of one more
replica; and another one of what went away with its holders.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from router.belief.holders import NO_WORK, Holders
from router.state import HeldRun
from router.types import BlockHash, ReplicaId

CACHES_REMEMBERED = 4
"""Times all caches together. What comes back later than after so much else passes for new."""
MAX_BLOCKS = 4_000_000
"""In clusters of any size: 8 bytes each, and half a kilobyte for each prompt, so that many short ones take the most."""


_EVER, _GONE = ReplicaId("ever"), ReplicaId("gone")


class Memory(NamedTuple):
    """Leading blocks of a prompt that are remembered."""

    seen_blocks: int
    gone_blocks: int
    """Those that went with a replica, or when caches were reset, and were not computed again since."""
    shared_blocks: int
    """Those that other prompts begin with, too."""


class Seen:
    """Bounded by the most that all caches together ever were; nothing is remembered before there was one."""

    def __init__(self) -> None:
        self._holders = Holders()
        self._capacity_blocks = 0
        self.grow_to(0)

    def grow_to(self, cluster_blocks: int) -> None:
        """All caches together are so large now. Replicas that leave, perhaps to be replaced, are not forgotten."""
        self._capacity_blocks = max(self._capacity_blocks, min(CACHES_REMEMBERED * cluster_blocks, MAX_BLOCKS))
        for kind in (_EVER, _GONE):
            self._holders.add_replica(kind, capacity_blocks=self._capacity_blocks)

    def match(self, block_hashes: Sequence[BlockHash]) -> Memory:
        """What is remembered of this prompt."""
        match = self._holders.match(block_hashes)
        return Memory(match.blocks_at(_EVER), match.blocks_at(_GONE), match.shared_blocks)

    def on_computed(self, block_hashes: Sequence[BlockHash]) -> None:
        """A replica holds all of this prompt now."""
        self._holders.discard_after(_GONE, block_hashes, num_kept=0)
        self._holders.insert(_EVER, block_hashes, placed=NO_WORK)

    def on_gone(self, held: Iterable[HeldRun]) -> None:
        """A replica that held this is gone, or its cache was reset."""
        self._holders.adopt(_GONE, held, {})

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        self._holders.check_integrity()

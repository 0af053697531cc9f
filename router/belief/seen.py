"""The prefixes that replicas have cached at any time, as far as they are remembered: tells new ones from lost ones.

Two LRUs, several times larger than all caches together, each in the form of one more replica. One has every prompt that
was computed, the other one those that went away with their holders.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from router.belief.holders import NO_WORK, Holders
from router.state import HeldRun
from router.types import BlockHash, ReplicaId

CACHES_REMEMBERED = 4
"""Multiple of all caches together. A prefix that comes back after more work than that counts as new."""
MAX_BLOCKS = 4_000_000
"""Limit in clusters of any size: 8 bytes a block, and half a kilobyte a prompt, so many short prompts take the most."""

_EVER, _GONE = ReplicaId("ever"), ReplicaId("gone")


class Memory(NamedTuple):
    """Remembered leading blocks of a prompt."""

    seen_blocks: int
    """Blocks that any replica has had cached."""
    gone_blocks: int
    """Blocks that went away with a replica, or when caches were reset, and were not computed again since."""
    shared_blocks: int
    """Blocks that other prompts begin with, too."""


class Seen:
    """Bounded by the largest size of all caches together so far; nothing is remembered before there was a cache."""

    def __init__(self) -> None:
        self._holders = Holders()
        self._capacity_blocks = 0
        self.grow_to(0)

    def grow_to(self, cluster_blocks: int) -> None:
        """Adapt to the size of all caches together. It never shrinks: replicas that leave may be replaced."""
        self._capacity_blocks = max(self._capacity_blocks, min(CACHES_REMEMBERED * cluster_blocks, MAX_BLOCKS))
        for kind in (_EVER, _GONE):
            self._holders.add_replica(kind, capacity_blocks=self._capacity_blocks)

    def match(self, block_hashes: Sequence[BlockHash]) -> Memory:
        """The remembered prefixes of this prompt."""
        match = self._holders.match(block_hashes)
        return Memory(match.blocks_at(_EVER), match.blocks_at(_GONE), match.shared_blocks)

    def on_computed(self, block_hashes: Sequence[BlockHash]) -> None:
        """Remember a prompt that a replica has computed."""
        self._holders.discard_after(_GONE, block_hashes, num_kept=0)
        self._holders.insert(_EVER, block_hashes, placed=NO_WORK)

    def on_gone(self, held: Iterable[HeldRun]) -> None:
        """Remember the contents of a cache that is gone or was reset."""
        self._holders.adopt(_GONE, held, {})

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        self._holders.check_integrity()

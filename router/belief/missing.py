"""The conclusion from a prompt of which an engine reused less than it was estimated to have cached.

An engine evicts the blocks that were used longest ago, so all blocks that were used before the missing ones are gone as
well. An engine that was emptied without the router's knowledge finds nothing from before that, however recent: after
several misses in a row, everything is gone.
"""

from dataclasses import dataclass

from router.belief.match import LastUses
from router.types import ReplicaId

MISSES = 2
"""Misses in a row. One may be a prompt that the engine cannot find for reasons of its own; each is a wrong estimate."""


@dataclass(slots=True)
class _Suspicion:
    since: int
    """The use at which blocks were missing first."""
    misses: int


class MissingBlocks:
    """The replicas whose engines lately missed blocks, and since when."""

    def __init__(self) -> None:
        self._replica_to_suspicion: dict[ReplicaId, _Suspicion] = {}

    def forget(self, replica_id: ReplicaId) -> None:
        """Stop suspecting a replica."""
        self._replica_to_suspicion.pop(replica_id, None)

    def gone_before(self, replica_id: ReplicaId, last_uses: LastUses, *, num_found_blocks: int) -> int | None:
        """The use before which all of an engine's blocks are gone; None if no block is missing.

        The engine found `num_found_blocks` of a prompt, the cached blocks of which had these last uses.
        """
        suspicion = self._replica_to_suspicion.get(replica_id) or _Suspicion(last_uses.now, 0)
        missing = last_uses.first_missing(num_found_blocks)
        if last_uses.is_found_from_before(suspicion.since, num_found_blocks):
            self.forget(replica_id)
        elif missing is not None and missing < suspicion.since:
            suspicion.misses += 1
            self._replica_to_suspicion[replica_id] = suspicion
            if suspicion.misses >= MISSES:
                self.forget(replica_id)
                return suspicion.since
        return missing

"""What follows from a prompt of which an engine reused less than it was believed to hold.

An engine evicts what was used longest ago, so all that was used before what is missing is gone as well. One that was
emptied behind the router's back finds nothing that was used before, however lately: after several misses in a row,
everything is gone.
"""

from dataclasses import dataclass

from router.belief.holders import LastUses
from router.types import ReplicaId

MISSES = 2
"""In a row: one may be a prompt that the engine cannot find for reasons of its own, and each is a wrong prediction."""


@dataclass(slots=True)
class _Suspicion:
    since: int
    """The use at which something was missing first."""
    misses: int


class MissingBook:
    """Of all replicas."""

    def __init__(self) -> None:
        self._replica_to_suspicion: dict[ReplicaId, _Suspicion] = {}

    def forget(self, replica_id: ReplicaId) -> None:
        """Suspect it of nothing."""
        self._replica_to_suspicion.pop(replica_id, None)

    def gone_before(self, replica_id: ReplicaId, last_uses: LastUses, *, num_found_blocks: int) -> int | None:
        """An engine reused so much of a prompt that had been used like this.

        Returns the use before which all is gone; None if nothing is missing.
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

"""The replicas that are excluded for a while, and why.

The evidence is our own, because the cluster manager's word comes seconds later: a replica says that it cannot serve, or
is silent, or a request that was sent there arrived elsewhere. Every exclusion ends by itself, so wrong evidence cannot
exclude a replica for ever.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from router.types import ReplicaId

NEVER = float("-inf")


class Exclusion(StrEnum):
    """Reasons to exclude a replica."""

    NOT_SERVING = "not_serving"
    """The replica says so itself: its engine died, or hangs."""
    SILENT = "silent"
    """The replica was heard from, and is not any more."""
    UNREACHABLE = "unreachable"
    """A request that was sent there arrived at another replica."""


@dataclass(slots=True)
class _ReplicaHealth:
    heard_at: float | None = None
    not_serving_until: float = NEVER
    unreachable_until: float = NEVER


class Health:
    """The health of every replica, as far as this router knows.

    Args:
        silence_s: a replica that was heard from is excluded after this time without a word.
        exclusion_s: silence, or its own word that it cannot serve, excludes a replica for at most this time.
        retry_s: a failed connection excludes a replica for this time.

    """

    def __init__(self, *, silence_s: float, exclusion_s: float, retry_s: float) -> None:
        self._silence_s = silence_s
        self._exclusion_s = exclusion_s
        self._retry_s = retry_s
        self._replica_to_health: dict[ReplicaId, _ReplicaHealth] = {}
        self._excluded: Mapping[ReplicaId, Exclusion] = {}
        self._excluded_until = NEVER

    def add_replica(self, replica_id: ReplicaId) -> None:
        """Start watching a replica. It counts as healthy until there is evidence."""
        self._replica_to_health.setdefault(replica_id, _ReplicaHealth())
        self._excluded_until = NEVER

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Stop watching a replica."""
        del self._replica_to_health[replica_id]
        self._excluded_until = NEVER

    def heard(self, replica_id: ReplicaId, *, is_serving: bool, now: float) -> None:
        """The replica spoke, and said whether it can serve. Unknown replicas are ignored."""
        health = self._replica_to_health.get(replica_id)
        if health is None:
            return
        is_changed = not is_serving or replica_id in self._excluded
        self._excluded_until = NEVER if is_changed else min(self._excluded_until, now + self._silence_s)
        health.heard_at = now
        health.not_serving_until = NEVER if is_serving else now + self._exclusion_s

    def connection_failed(self, replica_id: ReplicaId, *, now: float) -> None:
        """A request could not be delivered there."""
        health = self._replica_to_health.get(replica_id)
        if health is not None:
            health.unreachable_until = now + self._retry_s
            self._excluded_until = NEVER

    def excluded(self, *, now: float) -> Mapping[ReplicaId, Exclusion]:
        """Every replica that is excluded now, and why; the same object for as long as nothing can have changed.

        A word from a replica puts off its silence, so the earliest change known before stays a lower bound.
        """
        if now >= self._excluded_until:
            exclusions = {replica_id: self.exclusion(replica_id, now=now) for replica_id in self._replica_to_health}
            self._excluded = {
                replica_id: exclusion for replica_id, exclusion in exclusions.items() if exclusion is not None
            }
            changes = (self._next_change(health, now=now) for health in self._replica_to_health.values())
            self._excluded_until = min(changes, default=math.inf)
        return self._excluded

    def exclusion(self, replica_id: ReplicaId, *, now: float) -> Exclusion | None:
        """The reason why the replica is excluded now; None if it is not."""
        health = self._replica_to_health[replica_id]
        if now < health.not_serving_until:
            return Exclusion.NOT_SERVING
        if now < health.unreachable_until:
            return Exclusion.UNREACHABLE
        silent_at = self._silent_at(health)
        if silent_at <= now < silent_at + self._exclusion_s:
            return Exclusion.SILENT
        return None

    def _silent_at(self, health: _ReplicaHealth) -> float:
        return math.inf if health.heard_at is None else health.heard_at + self._silence_s

    def _next_change(self, health: _ReplicaHealth, *, now: float) -> float:
        """The time at which a replica's exclusion may begin or end, if nothing is heard until then."""
        silent_at = self._silent_at(health)
        times = (health.not_serving_until, health.unreachable_until, silent_at, silent_at + self._exclusion_s)
        return min((time for time in times if time > now), default=math.inf)

    def heard_s_ago(self, replica_id: ReplicaId, *, now: float) -> float | None:
        """Seconds since the replica's last word; None before its first."""
        heard_at = self._replica_to_health[replica_id].heard_at
        return None if heard_at is None else now - heard_at

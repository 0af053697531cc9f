"""Which replicas are out of the choice for a while, and why.

Evidence of our own, because the cluster manager's word comes seconds later: a replica says that it cannot serve,
or is silent, or a request sent there arrived elsewhere. Every exclusion ends by itself: wrong evidence must not
keep a replica out for ever.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from router.types import ReplicaId

NEVER = float("-inf")


class Exclusion(StrEnum):
    """Why a replica is out of the choice."""

    NOT_SERVING = "not_serving"
    """It says so itself: its engine died, or hangs."""
    SILENT = "silent"
    """It was heard of, and is not any more."""
    UNREACHABLE = "unreachable"
    """A request that was sent there arrived at another replica."""


@dataclass(slots=True)
class _Health:
    heard_at: float | None = None
    not_serving_until: float = NEVER
    unreachable_until: float = NEVER


class HealthBook:
    """What this router knows of each replica's health.

    Args:
        silence_s: a replica that was heard of is out after so long without a word.
        exclusion_s: silence, or its own word that it cannot serve, keeps a replica out for at most this long.
        retry_s: after a failed connection, a replica is tried again in this time.

    """

    def __init__(self, *, silence_s: float, exclusion_s: float, retry_s: float) -> None:
        self._silence_s = silence_s
        self._exclusion_s = exclusion_s
        self._retry_s = retry_s
        self._replica_to_health: dict[ReplicaId, _Health] = {}
        self._excluded: Mapping[ReplicaId, Exclusion] = {}
        self._excluded_until = NEVER

    def add_replica(self, replica_id: ReplicaId) -> None:
        """Start watching a replica. It counts as healthy until there is evidence."""
        self._replica_to_health.setdefault(replica_id, _Health())
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
        """Everyone who is out of the choice now; the same object for as long as nothing can have changed.

        Being heard of puts off a replica's silence, so what was the earliest change stays a lower bound.
        """
        if now >= self._excluded_until:
            exclusions = {each: self.exclusion(each, now=now) for each in self._replica_to_health}
            self._excluded = {each: exclusion for each, exclusion in exclusions.items() if exclusion is not None}
            changes = (self._next_change(health, now=now) for health in self._replica_to_health.values())
            self._excluded_until = min(changes, default=math.inf)
        return self._excluded

    def exclusion(self, replica_id: ReplicaId, *, now: float) -> Exclusion | None:
        """Why the replica is out of the choice now, or None."""
        health = self._replica_to_health[replica_id]
        if now < health.not_serving_until:
            return Exclusion.NOT_SERVING
        if now < health.unreachable_until:
            return Exclusion.UNREACHABLE
        silent_at = self._silent_at(health)
        if silent_at <= now < silent_at + self._exclusion_s:
            return Exclusion.SILENT
        return None

    def _silent_at(self, health: _Health) -> float:
        return math.inf if health.heard_at is None else health.heard_at + self._silence_s

    def _next_change(self, health: _Health, *, now: float) -> float:
        """When a replica's exclusion may begin or end, if nothing is heard until then."""
        silent_at = self._silent_at(health)
        times = (health.not_serving_until, health.unreachable_until, silent_at, silent_at + self._exclusion_s)
        return min((time for time in times if time > now), default=math.inf)

    def heard_s_ago(self, replica_id: ReplicaId, *, now: float) -> float | None:
        """Seconds since the replica's last word; None before its first."""
        heard_at = self._replica_to_health[replica_id].heard_at
        return None if heard_at is None else now - heard_at

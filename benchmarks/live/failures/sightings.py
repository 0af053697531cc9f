"""What the routers knew of each replica, and when: from their snapshots, looked at again and again. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve_app.messages.snapshot import RouterSnapshot


@dataclass(frozen=True, slots=True)
class Membership:
    """A replica in a router's eyes."""

    rank: int
    excluded: str | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at all routers that answered."""

    at_s: float
    router_to_replicas: Mapping[str, Mapping[str, Membership]]


def sighting(at_s: float, routers: Sequence[RouterSnapshot]) -> Sighting:
    """The sighting that snapshots give."""
    return Sighting(
        at_s,
        {
            router.router: {
                replica_id: Membership(replica.rank, replica.excluded)
                for replica_id, replica in router.replicas.items()
            }
            for router in routers
        },
    )


@dataclass(slots=True)
class Recovery:
    """How one router got over the loss of a replica; seconds after it was killed, None for what never happened."""

    out_s: float | None = None
    """Excluded, or gone altogether."""
    out_because: str | None = None
    gone_s: float | None = None
    """When it was not among the router's replicas any more."""
    replaced_s: float | None = None
    """Another replica of the same rank is there, and not excluded."""
    replacement: str | None = None


def recoveries(
    sightings: Sequence[Sighting], *, dead: str, known_before: Sequence[str], rank: int, killed_s: float
) -> dict[str, Recovery]:
    """The recovery of each router.

    Args:
        sightings: in order of time.
        dead: the killed replica's full id.
        known_before: all replicas before.
        rank: the killed replica's.
        killed_s: when, on the sightings' clock.

    """
    router_to_recovery: dict[str, Recovery] = {}
    for seen in sightings:
        if seen.at_s < killed_s:
            continue
        for router, replicas in seen.router_to_replicas.items():
            recovery = router_to_recovery.setdefault(router, Recovery())
            _note_loss(recovery, replicas.get(dead), seen.at_s - killed_s)
            newcomers = [
                replica_id
                for replica_id, membership in replicas.items()
                if membership.rank == rank and not membership.excluded and replica_id not in known_before
            ]
            if newcomers and recovery.replaced_s is None:
                recovery.replaced_s, recovery.replacement = seen.at_s - killed_s, newcomers[0]
    return router_to_recovery


def _note_loss(recovery: Recovery, membership: Membership | None, after_s: float) -> None:
    if recovery.out_s is None and (membership is None or membership.excluded):
        recovery.out_s = after_s
        recovery.out_because = "gone" if membership is None else membership.excluded
    if recovery.gone_s is None and membership is None:
        recovery.gone_s = after_s

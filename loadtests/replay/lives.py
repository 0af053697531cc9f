"""The times at which each replica was there, and how many replicas that makes."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class ReplicaLife:
    """The time in which a replica served."""

    joined_s: float
    left_s: float | None = None
    """When its last new request came; None while it gets new ones."""
    gone_s: float | None = None
    """When it had finished its requests; None for one that is there in the end."""


def replica_seconds(lives: Iterable[ReplicaLife], *, start_s: float, end_s: float, starting_s: float = 0.0) -> float:
    """Paid for between two times: starting, serving, and finishing what was begun. The first ones start at 0."""
    return sum(
        max(0.0, min(_gone_s(each, end_s), end_s) - max(_ordered_s(each, starting_s), start_s)) for each in lives
    )


def most_replicas(lives: Iterable[ReplicaLife], *, start_s: float, end_s: float) -> int:
    """Serving at once, at some time between these two."""
    events = sorted(
        event
        for each in lives
        if each.joined_s < end_s and (left_s := end_s if each.left_s is None else each.left_s) > start_s
        for event in ((max(each.joined_s, start_s), 1), (min(left_s, end_s), -1))
    )
    num, most = 0, 0
    for _, change in events:
        num += change
        most = max(most, num)
    return most


def num_changes(lives: Iterable[ReplicaLife], *, start_s: float, end_s: float) -> int:
    """Times at which replicas joined or left."""
    times_s = {time_s for each in lives for time_s in (each.joined_s, each.left_s) if time_s}
    return sum(start_s < time_s <= end_s for time_s in times_s)


def _ordered_s(life: ReplicaLife, starting_s: float) -> float:
    return life.joined_s - starting_s if life.joined_s else 0.0


def _gone_s(life: ReplicaLife, end_s: float) -> float:
    return end_s if life.gone_s is None else life.gone_s

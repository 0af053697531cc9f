"""What can happen to the replicas in the middle of a trace, and runs in which it does."""

from dataclasses import dataclass

from benchmarks.virtual.scenarios.trials import NUM_AFTER, Trial, cut
from benchmarks.virtual.several_routers.setup import simulate
from loadtests.replay.fleet import ChangeKind, MembershipChange
from loadtests.replay.results import Replay
from loadtests.replay.simulation import Scenario
from router import ReplicaId

RANK = 1
"""The rank of the replica that leaves or crashes."""
REPLACED_AFTER_S = 30.0
NUM_COMPANY = 500
"""Requests after those that are looked at, so that the last ones have company."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens."""

    name: str
    changes: tuple[tuple[float, ChangeKind], ...]
    """Changes, each with its seconds after the first."""

    def happening_at(self, time_s: float, *, num_replicas: int) -> tuple[MembershipChange, ...]:
        """The changes at that time; a newcomer takes the rank of a replica that is gone, or a rank of its own."""
        newcomer = RANK if self.is_loss else num_replicas
        return tuple(
            MembershipChange(time_s + after_s, change, newcomer if change is ChangeKind.JOIN else RANK)
            for after_s, change in self.changes
        )

    @property
    def is_loss(self) -> bool:
        """Whether a replica goes."""
        return self.changes[0][1] is not ChangeKind.JOIN

    @property
    def has_newcomer(self) -> bool:
        """Whether a replica comes."""
        return self.changes[-1][1] is ChangeKind.JOIN


EVENTS = (
    Event("join", ((0.0, ChangeKind.JOIN),)),
    Event("leave", ((0.0, ChangeKind.LEAVE),)),
    Event("crash", ((0.0, ChangeKind.CRASH),)),
    Event("crash, replaced after 30 s", ((0.0, ChangeKind.CRASH), (REPLACED_AFTER_S, ChangeKind.JOIN))),
)


def try_event(event: Event, scenario: Scenario, *, at_s: float, undisturbed: Replay) -> Trial:
    """Run the scenario with the event; `undisturbed` is what it gives without."""
    changes = event.happening_at(at_s, num_replicas=scenario.num_replicas)
    known_s = changes[-1].at_s + scenario.membership_lag_s
    num_sent = sum(each.arrival_s < known_s for each in scenario.requests) + NUM_AFTER + NUM_COMPANY
    disturbed = simulate(scenario, requests=scenario.requests[:num_sent], changes=changes)
    newcomer = _replica_id(scenario.num_replicas) if event.has_newcomer else None
    stayed = {_replica_id(number) for number in range(scenario.num_replicas) if number != RANK or not event.is_loss}
    return Trial(
        cut(disturbed, at_s=at_s, known_s=known_s),
        cut(undisturbed, at_s=at_s, known_s=known_s),
        frozenset(stayed | ({newcomer} if newcomer else set())),
        newcomer,
    )


def _replica_id(number: int) -> ReplicaId:
    """They are numbered as they join, the first ones by rank."""
    return ReplicaId(f"replica-{number}")

"""What can happen to the replicas in the middle of a trace, and runs in which it does."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.replay.fleet import Change, MembershipChange
from loadtests.replay.results import RequestRecord, Run
from loadtests.replay.simulation import Scenario
from loadtests.several_routers.setup import simulate
from router import ReplicaId

RANK = 1
"""Who leaves or crashes."""
REPLACED_AFTER_S = 30.0
NUM_BEFORE, NUM_AFTER, NUM_SHARED = 500, 2000, 1000
"""Requests that are looked at; the last ones for how work is shared."""
NUM_COMPANY = 500
"""Requests after those, so that the last ones have company."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens."""

    name: str
    changes: tuple[tuple[float, Change], ...]
    """Each so long after the first, in seconds."""

    def happening_at(self, time_s: float, *, num_replicas: int) -> tuple[MembershipChange, ...]:
        """One who joins takes the place of another that is gone, or one of its own."""
        newcomer = RANK if self.is_loss else num_replicas
        return tuple(
            MembershipChange(time_s + after_s, change, newcomer if change is Change.JOIN else RANK)
            for after_s, change in self.changes
        )

    @property
    def is_loss(self) -> bool:
        """Whether a replica goes."""
        return self.changes[0][1] is not Change.JOIN

    @property
    def has_newcomer(self) -> bool:
        """Whether a replica comes."""
        return self.changes[-1][1] is Change.JOIN


EVENTS = (
    Event("join", ((0.0, Change.JOIN),)),
    Event("leave", ((0.0, Change.LEAVE),)),
    Event("crash", ((0.0, Change.CRASH),)),
    Event("crash, replaced after 30 s", ((0.0, Change.CRASH), (REPLACED_AFTER_S, Change.JOIN))),
)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Of a run, around an event. In order of arrival."""

    before: Sequence[RequestRecord]
    """The last ones before it."""
    after: Sequence[RequestRecord]
    since_known: Sequence[RequestRecord]
    """The first since all routers know the last of it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The same requests with and without an event."""

    disturbed: Excerpt
    undisturbed: Excerpt
    replica_ids: frozenset[ReplicaId]
    """Who is there in the end."""
    newcomer: ReplicaId | None


def try_event(event: Event, scenario: Scenario, at_s: float, undisturbed: Run) -> Trial:
    """Run the scenario with the event; without, it gave the other run."""
    num_replicas = scenario.num_replicas
    changes = event.happening_at(at_s, num_replicas=num_replicas)
    known_s = changes[-1].at_s + scenario.membership_lag_s
    num_sent = sum(each.arrival_s < known_s for each in scenario.requests) + NUM_AFTER + NUM_COMPANY
    disturbed = simulate(scenario, requests=scenario.requests[:num_sent], changes=changes)
    replica_ids = {_replica_id(number) for number in range(num_replicas)}
    newcomer = _replica_id(num_replicas) if event.has_newcomer else None
    return Trial(
        _excerpt(disturbed, at_s, known_s),
        _excerpt(undisturbed, at_s, known_s),
        frozenset(
            replica_ids - ({_replica_id(RANK)} if event.is_loss else set()) | ({newcomer} if newcomer else set())
        ),
        newcomer,
    )


def _replica_id(number: int) -> ReplicaId:
    """They are numbered as they join."""
    return ReplicaId(f"replica-{number}")


def _excerpt(run: Run, at_s: float, known_s: float) -> Excerpt:
    in_order = sorted(run.records, key=lambda record: record.arrival_s)
    before = [record for record in in_order if record.arrival_s < at_s]
    since_known = [record for record in in_order if record.arrival_s >= known_s]
    return Excerpt(before[-NUM_BEFORE:], in_order[len(before) :][:NUM_AFTER], since_known[:NUM_SHARED])

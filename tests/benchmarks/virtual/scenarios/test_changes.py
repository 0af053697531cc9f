"""Runs in which replicas come and go."""

from dataclasses import replace

import pytest

from benchmarks.virtual.scenarios.changes import EVENTS, Event, try_event
from benchmarks.virtual.several_routers.setup import simulate
from loadtests.replay.fleet import ChangeKind, MembershipChange
from router import ReplicaId
from tests.loadtests.replay.builders import make_scenario

JOIN, LEAVE, CRASH, REPLACED = EVENTS


def ids(*numbers: int) -> set[ReplicaId]:
    """Of replicas."""
    return {ReplicaId(f"replica-{number}") for number in numbers}


@pytest.mark.parametrize(
    ("event", "present", "newcomer"),
    [
        (JOIN, ids(0, 1, 2, 3), "replica-3"),
        (LEAVE, ids(0, 2), None),
        (CRASH, ids(0, 2), None),
        (replace(REPLACED, changes=((0.0, ChangeKind.CRASH), (1.0, ChangeKind.JOIN))), ids(0, 2, 3), "replica-3"),
    ],
)
def test_who_is_there_in_the_end_serves_alone(event: Event, present: set[ReplicaId], newcomer: str | None) -> None:
    """Since routers know; before the event nothing is different."""
    scenario = replace(make_scenario(), policy="least_loaded", membership_lag_s=1.0)
    trial = try_event(event, scenario, at_s=8.0, undisturbed=simulate(scenario))
    assert (trial.replica_ids, trial.newcomer) == (present, newcomer)
    assert {record.replica_id for record in trial.disturbed.since_known} == present
    assert {record.replica_id for record in trial.undisturbed.since_known} == ids(0, 1, 2)
    assert [each.arrival_s for each in trial.disturbed.after] == [each.arrival_s for each in trial.undisturbed.after]
    assert sum(trial.disturbed.shares(trial.replica_ids).values()) == pytest.approx(len(present))


def test_a_replacement_has_the_rank_of_who_crashed_and_a_newcomer_its_own() -> None:
    """Thirty seconds later."""
    assert REPLACED.happening_at(5.0, num_replicas=16) == (
        MembershipChange(5.0, ChangeKind.CRASH, 1),
        MembershipChange(35.0, ChangeKind.JOIN, 1),
    )
    assert JOIN.happening_at(5.0, num_replicas=16) == (MembershipChange(5.0, ChangeKind.JOIN, 16),)

"""Whole runs in which replicas come and go."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.replay.fleet import ChangeKind, MembershipChange
from loadtests.replay.results import Replay
from loadtests.replay.simulation import Scenario, Simulation
from router import ReplicaId
from serve_app.settings.schema import RoutingSettings
from tests.loadtests.replay.builders import make_scenario

LAG_S = 1.0


def run_with(*changes: MembershipChange, scenario: Scenario | None = None) -> Replay:
    """The small scenario with some changes, of which routers learn a second later."""
    base = scenario or make_scenario()
    return Simulation(replace(base, changes=changes, membership_lag_s=LAG_S)).run()


def assert_all_served_once(run: Replay) -> None:
    """Every request finished once, with one record, and no router has anything left."""
    assert run.num_finished == len(run.records) == len({record.request_id for record in run.records}) == 48
    assert set(run.router_to_reservations_left.values()) == {0}


def test_a_joining_replica_gets_work_once_the_routers_know() -> None:
    """Not before."""
    scenario = replace(make_scenario(), routing=RoutingSettings(policy="round_robin"))
    run = run_with(MembershipChange(5, ChangeKind.JOIN, 3), scenario=scenario)
    assert_all_served_once(run)
    first_s = min(each.arrival_s for each in run.records if each.replica_id == "replica-3")
    assert first_s >= 5 + LAG_S


def test_a_leaving_replica_gets_nothing_new_once_the_routers_know() -> None:
    """What it had is finished there, so nothing is sent twice."""
    run = run_with(MembershipChange(10, ChangeKind.LEAVE, 1))
    assert_all_served_once(run)
    assert run.num_sent == 48
    assert max(each.arrival_s for each in run.records if each.replica_id == "replica-1") < 10 + LAG_S


def test_requests_of_a_crashed_replica_are_served_elsewhere() -> None:
    """Sent again as a whole: their TTFT counts from the first time, and work was done twice."""
    run, undisturbed = run_with(MembershipChange(10, ChangeKind.CRASH, 1)), run_with()
    assert_all_served_once(run)
    assert run.num_sent > 48
    assert undisturbed.num_sent == 48
    assert all(each.arrival_s + each.ttft_s < 10 for each in run.records if each.replica_id == "replica-1")
    prompt_tokens = sum(each.prompt_tokens - each.cached_tokens for each in run.records)
    assert sum(run.replica_to_computed_tokens.values()) >= prompt_tokens


def test_routers_that_do_not_know_of_a_crash_lose_nothing() -> None:
    """Requests that they send there find the door closed and are tried elsewhere, as HAProxy does."""
    scenario = replace(make_scenario(), membership_lag_s=1000.0)
    run = Simulation(replace(scenario, changes=(MembershipChange(10, ChangeKind.CRASH, 1),))).run()
    assert run.num_finished == len(run.records) == 48
    assert all(each.replica_id != "replica-1" for each in run.arrived_within(11, 1000))


def test_a_replacement_has_the_rank_of_the_one_that_crashed() -> None:
    """And gets work under another id."""
    run = run_with(MembershipChange(8, ChangeKind.CRASH, 1), MembershipChange(12, ChangeKind.JOIN, 1))
    assert_all_served_once(run)
    assert any(each.replica_id == "replica-3" for each in run.records)


@pytest.mark.parametrize("is_closed_loop", [False, True])
@given(
    cases=st.lists(st.tuples(st.floats(0, 25), st.sampled_from(ChangeKind), st.integers(0, 2)), max_size=4),
    num_routers=st.integers(1, 2),
)
@settings(max_examples=15)
def test_whatever_happens_every_request_finishes_once(
    *, is_closed_loop: bool, cases: list[tuple[float, ChangeKind, int]], num_routers: int
) -> None:
    """Joins, departures and crashes at any time; rank 9 always stays, so that somebody is left."""
    changes, ranks = [MembershipChange(0, ChangeKind.JOIN, 9)], {0, 1, 2}
    for at_s, change, rank in sorted(cases):
        if (rank in ranks) == (change is ChangeKind.JOIN):
            continue
        ranks ^= {rank}
        changes.append(MembershipChange(at_s, change, rank))
    scenario = replace(make_scenario(num_routers=num_routers), is_closed_loop=is_closed_loop)
    run = run_with(*changes, scenario=scenario)
    assert_all_served_once(run)
    assert sum(run.replica_to_computed_tokens.values()) >= sum(
        each.prompt_tokens - each.cached_tokens for each in run.records
    )


def test_the_last_of_a_lagging_router_is_a_replica_that_is_gone() -> None:
    """All that it knows crashed; what joined meanwhile serves, though the router has not heard of it."""
    changes = [
        MembershipChange(5, ChangeKind.JOIN, 7),
        *(MembershipChange(5.1, ChangeKind.CRASH, rank) for rank in range(3)),
    ]
    run = run_with(*changes)
    assert_all_served_once(run)
    assert {each.replica_id for each in run.arrived_within(5.1, 1000)} == {ReplicaId("replica-3")}

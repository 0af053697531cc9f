"""Turns that wait for the answer before."""

from dataclasses import replace

import pytest

from loadtests.replay.results import Replay, RequestRecord
from loadtests.replay.simulation import Scenario, Simulation
from router import RequestId
from tests.loadtests.replay.builders import BLOCK_SIZE, OPTIONS, make_scenario, make_trace_request

SLOW = OPTIONS.model_copy(update={"prefill_tokens_per_s": 10})


def make_turns() -> Scenario:
    """Turns at 0, 1 and 3 s, of which each continues the one before; their prefills take 2 s and more."""
    turns = [make_trace_request(*range(3 + turn), arrival_s=at_s) for turn, at_s in enumerate((0, 1, 3))]
    requests = tuple(
        replace(turn, session_id="a", predecessor=number - 1 if number else None) for number, turn in enumerate(turns)
    )
    return Scenario(requests, num_replicas=1, num_routers=1, seed=1, engine=SLOW, block_size=BLOCK_SIZE)


def by_arrival(run: Replay) -> list[RequestRecord]:
    """The records."""
    return sorted(run.records, key=lambda record: record.arrival_s)


def test_open_loop_is_the_traces_own_time() -> None:
    """Whatever the answers take."""
    assert [record.arrival_s for record in by_arrival(Simulation(make_turns()).run())] == [0, 1, 3]


def test_a_turn_comes_its_gap_after_the_answer_before() -> None:
    """1 s and 2 s after the second output token, which is one step of 11 ms after the first."""
    records = by_arrival(Simulation(replace(make_turns(), is_closed_loop=True)).run())
    assert [record.request_id for record in records] == [RequestId(f"request-{number}") for number in range(3)]
    for before, after, gap_s in zip(records, records[1:], (1, 2), strict=False):
        assert after.arrival_s == pytest.approx(before.arrival_s + before.ttft_s + 0.011 + gap_s)


def test_two_that_branch_from_one_both_wait_for_it() -> None:
    """And not for each other."""
    first, second, third = make_turns().requests
    scenario = replace(make_turns(), requests=(first, second, replace(third, predecessor=0)), is_closed_loop=True)
    arrivals_s = [record.arrival_s for record in by_arrival(Simulation(scenario).run())]
    assert arrivals_s[2] - arrivals_s[1] == pytest.approx(2)


def test_requests_that_follow_nobody_come_as_in_the_trace() -> None:
    """Closed loop changes nothing for them."""
    scenario = make_scenario()
    assert Simulation(replace(scenario, is_closed_loop=True)).run() == Simulation(scenario).run()


def test_a_run_knows_when_the_last_session_began() -> None:
    """Whatever the answers take: at 3 s, or at 0 where the other turns wait."""
    runs = [Simulation(replace(make_turns(), is_closed_loop=closed)).run() for closed in (False, True)]
    assert [run.last_start_s for run in runs] == [3, 0]
    assert [run.num_finished for run in runs] == [3, 3]

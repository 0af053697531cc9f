"""Conversations from a seed."""

from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import pytest

from benchmarks.gpu.sessions import TurnTraffic, make_sessions

TRAFFIC = TurnTraffic(
    num_sessions=400,
    requests_per_s=8,
    turns=3,
    num_prefixes=5,
    prefix_tokens=40,
    message_tokens=10,
    answer_tokens=4,
    think_s=2,
)


def test_the_same_seed_gives_the_same_sessions() -> None:
    """And another one others."""
    assert make_sessions(TRAFFIC, seed="a") == make_sessions(TRAFFIC, seed="a")
    assert make_sessions(TRAFFIC, seed="a") != make_sessions(TRAFFIC, seed="b")


def test_a_turn_goes_on_from_the_one_before() -> None:
    """With its answer and a message between; only the first is asked at once."""
    for session in make_sessions(TRAFFIC, seed="a"):
        assert session.turns[0].think_s == 0
        for before, after in pairwise(session.turns):
            assert after.prompt[: len(before.prompt)] == before.prompt
            assert 4 + 5 <= len(after.prompt) - len(before.prompt) <= 4 + 15
            assert after.think_s > 0


def test_sessions_share_system_prompts_and_nothing_else() -> None:
    """The first system prompt is used most."""
    sessions = make_sessions(TRAFFIC, seed="a")
    beginnings = [session.turns[0].prompt[:40] for session in sessions]
    assert len(set(beginnings)) == 5
    assert len({session.turns[0].prompt[40:44] for session in sessions}) > 390
    counts = sorted(beginnings.count(each) for each in set(beginnings))
    assert counts[-1] > 3 * counts[0]


def test_rate_and_turns_are_as_told() -> None:
    """At the mean."""
    sessions = make_sessions(TRAFFIC, seed="a")
    num_turns = [len(session.turns) for session in sessions]
    assert (min(num_turns), max(num_turns)) == (1, TRAFFIC.max_turns)
    assert fmean(num_turns) == pytest.approx(3, rel=0.1)
    assert sum(num_turns) / sessions[-1].arrival_s == pytest.approx(8, rel=0.15)


def test_no_prompt_is_longer_than_said() -> None:
    """With its answer."""
    prompts = [turn.prompt for session in make_sessions(TRAFFIC, seed="a") for turn in session.turns]
    assert max(map(len, prompts)) + TRAFFIC.answer_tokens <= TRAFFIC.max_tokens


def test_without_prefix_and_history_prompts_share_nothing() -> None:
    """So that no routing can help."""
    traffic = replace(TRAFFIC, turns=1, prefix_tokens=0, message_tokens=20, think_s=0)
    sessions = make_sessions(traffic, seed="a")
    assert {len(session.turns) for session in sessions} == {1}
    assert len({session.turns[0].prompt[:4] for session in sessions}) == len(sessions)

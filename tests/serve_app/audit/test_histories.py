"""Conversations that are appended to, and those that are rewritten."""

from dataclasses import replace

import pytest

from serve_app.audit import histories
from serve_app.audit.histories import Histories, Rewriting, num_leading_system, without_breakpoints
from tests.serve_app.audit.logs import POLICY, Body, chat, conversation, requests


def see(bodies: list[Body]) -> list[Rewriting | None]:
    """Request by request."""
    histories = Histories(is_remembering=True)
    return [histories.see(request) for request in requests(bodies)]


def test_appending_is_no_rewriting() -> None:
    """Turn by turn, several conversations at a time, with a system prompt that changes, and breakpoints that move."""
    bodies = [chat(f"{turn} {POLICY}", *conversation(talk, turn)) for turn in range(4) for talk in range(5)]
    bodies[7]["messages"][-1]["cache_control"] = {"type": "ephemeral"}
    assert see(bodies) == [None] * len(bodies)


def test_conversations_that_say_the_same_are_not_one() -> None:
    """Two users ask alike and get other answers."""
    first = [chat(POLICY, "The same long question that everybody asks on the first day of the month.")]
    ways = [
        [*first[0]["messages"], {"role": "assistant", "content": f"Answer {way}, which has its own words."}]
        for way in range(3)
    ]
    then = [
        {
            "messages": [
                *way,
                {"role": "user", "content": "Another question that all of them ask, in the very same words as well."},
            ]
        }
        for way in ways
    ]
    more = [
        {"messages": [*each["messages"], {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Why?"}]}
        for each in then
    ]
    assert see([*first, *then, *more]) == [None] * 7


@pytest.mark.parametrize(
    ("rewritten", "first_changed"),
    [
        (lambda said: said[2:], 1),
        (lambda said: (said[0], "[cut]", *said[2:]), 2),
        (lambda said: (said[0].upper(), *said[1:]), 1),
        (lambda said: (f"Summary of {len(said)} messages.", *said[3:]), 1),
    ],
)
def test_rewriting_is_found_and_what_would_have_been_appended(rewritten: object, first_changed: int) -> None:
    """The oldest dropped, an answer cut, a question edited, a summary; the second rewriting goes on from the whole."""
    whole = [conversation(1, turn) for turn in range(5)]
    bodies = [chat(POLICY, *(rewritten(said) if turn > 2 else said)) for turn, said in enumerate(whole)]  # type: ignore[operator]
    *before, third, fourth = see(bodies)
    assert before == [None, None, None]
    assert third is not None
    assert third.first_changed == first_changed
    assert [each["content"] for each in third.append_only] == list(whole[3])
    assert fourth is not None
    assert [each["content"] for each in fourth.append_only] == list(whole[4])


def test_another_session_does_not_continue_it() -> None:
    """The same rewriting is one within a session, and none across two."""
    cut = [chat(POLICY, *conversation(1, 2)), chat(POLICY, *conversation(1, 3)[2:])]
    first, second = requests(cut)
    for session_id, is_found in (("a", True), ("b", False)):
        seen = Histories(is_remembering=False)
        assert seen.see(replace(first, session_id="a")) is None
        assert (seen.see(replace(second, session_id=session_id)) is not None) is is_found


def test_what_is_not_remembered_is_not_appended() -> None:
    """The place of a rewriting is told by hashes alone."""
    seen = Histories(is_remembering=False)
    first, second = requests([chat(POLICY, *conversation(1, 2)), chat(POLICY, *conversation(1, 3)[2:])])
    assert seen.see(first) is None
    assert seen.see(second) == Rewriting(1, ())


def test_the_oldest_conversations_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewriting of one that made room for others is not known as one."""
    monkeypatch.setattr(histories, "MAX_TALKS", 2)
    cut = chat(POLICY, *conversation(1, 3)[2:])
    others = [chat(POLICY, *conversation(talk, 2)) for talk in (2, 3)]
    assert see([chat(POLICY, *conversation(1, 2)), cut])[-1] is not None
    assert see([chat(POLICY, *conversation(1, 2)), *others, cut])[-1] is None


def test_breakpoints_and_system_prompts_are_no_part_of_a_conversation() -> None:
    """At any depth, and without a change of what was given."""
    marked = [{"text": "a", "cache_control": {}, "parts": [{"cache_control": {}, "n": 1}]}]
    assert without_breakpoints(marked) == [{"text": "a", "parts": [{"n": 1}]}]
    assert "cache_control" in marked[0]
    roles = [{"role": role} for role in ("system", "developer", "user", "system")]
    assert [num_leading_system(roles[start:]) for start in range(4)] == [2, 1, 0, 1]

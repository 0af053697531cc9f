"""Conversations that are appended to, and those that are rewritten."""

import pytest

from serve_app.audit.histories import Histories, Rewriting
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

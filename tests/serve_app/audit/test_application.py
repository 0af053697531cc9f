"""What requests of one application have in common, and what they do differently."""

from typing import Any

import pytest

from serve_app.audit import application
from serve_app.audit.application import (
    PARAMETERS,
    ApplicationKey,
    Breakpoints,
    breakpoints_of,
    parameters_of,
    takes_breakpoints,
)
from tests.serve_app.audit.logs import POLICY, QUESTIONS, TOOLS, Body, chat, conversation, learn

MARK = {"cache_control": {"type": "ephemeral"}}


def anthropic(*, tools: int = 0, system: int = 0, talk: int = 0) -> Body:
    """With so many marked parts of each kind, behind one that is not marked."""
    return {
        "tools": [{"name": "plain"}, *({"name": f"t{number}", **MARK} for number in range(tools))],
        "system": [{"type": "text", "text": "plain"}, *({"type": "text", "text": "marked", **MARK},) * system],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "plain"}, *({"type": "text", "text": "x", **MARK},) * talk],
            }
        ],
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (anthropic(), Breakpoints(0, None)),
        (anthropic(talk=1), Breakpoints(1, None)),
        (anthropic(system=2, talk=1), Breakpoints(3, 1)),
        (anthropic(tools=1, system=1, talk=1), Breakpoints(3, -1)),
        (anthropic(tools=2, system=2, talk=2), Breakpoints(6, -1)),
        ({"system": "text", "messages": [{"role": "user", "content": "text", **MARK}]}, Breakpoints(1, None)),
        ({"messages": [{"role": "user", "content": None}]}, Breakpoints(0, None)),
        ({"messages": [{"role": "user", "content": "text", **MARK}] * 2}, Breakpoints(2, None)),
        (
            {"system": [{"text": "x-anthropic-billing-header: cch=1;"}, {"text": "text", **MARK}], "messages": []},
            Breakpoints(1, 0),
        ),
        (
            {"messages": [{"role": "user", "content": "text", **MARK}, {"role": "user", "content": "text"}]},
            Breakpoints(1, None, is_last_open=True),
        ),
    ],
)
def test_breakpoints_are_counted_wherever_they_are(body: Body, expected: Breakpoints) -> None:
    """On tools, parts of the system prompt, messages and their parts; the first one before the conversation counts."""
    assert breakpoints_of(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"system": "s", "messages": [{"role": "user", "content": "q"}]}, True),
        (chat(POLICY, "q"), False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q", **MARK}]}]}, True),
        ({"prompt": "q"}, False),
        ({"instructions": "s", "input": "q"}, False),
    ],
)
def test_breakpoints_are_asked_of_those_that_can_have_them(body: Body, expected: bool) -> None:
    """Anthropic's format, and gateways' chats that have some already."""
    assert takes_breakpoints(body) is expected


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_that_changes_tokens_counts_when_it_is_set(name: str) -> None:
    """Null is as if it were not there."""
    assert parameters_of({"messages": [], name: "set"}) == {name: "set"}
    assert parameters_of({"messages": [], name: None}) == {}


@pytest.mark.parametrize("others", [{"temperature": 0.5}, {"max_tokens": 5}, {"stream": True}, {"user": "ann"}])
def test_what_changes_no_token_is_no_parameter(others: dict[str, Any]) -> None:
    """Sampling, length, streaming."""
    assert parameters_of(chat(POLICY, "q", **others)) == {}


def test_no_tool_choice_takes_the_tools_out_of_the_prompt() -> None:
    """Where there are tools."""
    assert parameters_of(chat(POLICY, "q", tools=TOOLS, tool_choice="none")) == {"tool_choice": "none"}
    assert parameters_of(chat(POLICY, "q", tools=TOOLS, tool_choice="auto")) == {}
    assert parameters_of(chat(POLICY, "q", tool_choice="none")) == {}


def test_applications_are_told_apart_by_system_prompt_and_tools() -> None:
    """And by the first question where there is neither."""
    bodies = [
        chat(POLICY, QUESTIONS[0]),
        chat(POLICY, QUESTIONS[1]),
        chat(POLICY, QUESTIONS[0], tools=TOOLS),
        chat(POLICY[::-1], QUESTIONS[0]),
        {"messages": [{"role": "user", "content": QUESTIONS[2]}]},
        {"messages": [{"role": "user", "content": QUESTIONS[3]}]},
        {"prompt": QUESTIONS[2]},
    ]
    learned = learn(bodies)
    assert [each.num_requests for each in learned.applications] == [2, 1, 1, 1, 2]  # as they were seen last
    assert [each.num_conversations for each in learned.applications] == [2, 1, 1, 1, 1]
    assert all(learned.applications.get(each.key) is each for each in learned.applications)
    assert learned.applications.get(ApplicationKey(99, 0, 0)) is None


def test_turns_of_one_conversation_are_one_conversation() -> None:
    """By what its user said first; examples are of different ones."""
    learned = learn([chat(POLICY, *conversation(talk, turn)) for turn in range(3) for talk in range(5)])
    (found,) = learned.applications
    assert (found.num_requests, found.num_conversations) == (15, 5)
    assert [each.place.line for each in found.examples] == [1, 2, 3]
    assert found.place.line == 1


def test_the_oldest_application_of_one_request_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of several requests stay, and the total is bounded."""
    monkeypatch.setattr(application, "MAX_APPLICATIONS", 3)
    texts = [f"{chr(97 + number) * 40} speaks of {chr(107 + number) * 40}. " * 20 for number in range(6)]
    learned = learn([chat(texts[0], "q"), chat(texts[0], "r"), *(chat(text, "q") for text in texts[1:])])
    found = list(learned.applications)
    assert len(found) == 3
    assert found[0].num_requests == 2

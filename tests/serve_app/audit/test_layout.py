"""Where the parts of a request are, for each API."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audit.layout import (
    FieldPath,
    all_texts,
    first_user_texts,
    last_user_path,
    message_list,
    path_text,
    system_texts,
    tool_list,
    tool_name,
    value_at,
    with_value,
)
from tests.serve_app.audit.logs import TOOLS, Body

CHAT: Body = {
    "messages": [
        {"role": "system", "content": "policy"},
        {"role": "developer", "content": [{"type": "text", "text": "more policy"}]},
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "look"}, "and tell"]},
    ]
}
ANTHROPIC: Body = {
    "system": [{"type": "text", "text": "policy"}, {"type": "text", "text": "more policy"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "question"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "result"}]},
    ],
}
RESPONSES: Body = {
    "instructions": "policy",
    "input": [
        {"role": "developer", "content": "more policy"},
        {"role": "user", "content": [{"type": "input_text", "text": "question"}]},
        {"type": "function_call", "name": "book", "arguments": "{}"},
    ],
}
COMPLETION: Body = {"prompt": "question"}
SHORT_RESPONSE: Body = {"instructions": "policy", "input": "question"}


@pytest.mark.parametrize(
    ("body", "system", "first_user", "last_user"),
    [
        (CHAT, ["policy", "more policy"], ["question"], ("messages", 4, "content", 2)),
        (ANTHROPIC, ["policy", "more policy"], ["question"], None),
        (RESPONSES, ["policy", "more policy"], ["question"], ("input", 1, "content", 0, "text")),
        (COMPLETION, [], ["question"], ("prompt",)),
        (SHORT_RESPONSE, ["policy"], ["question"], ("input",)),
        ({"messages": [{"role": "assistant", "content": "answer"}]}, [], [], None),
        ({"messages": [{"role": "user", "content": None}]}, [], [], None),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "late"}]},
            [],
            ["a"],
            ("messages", 0, "content"),
        ),
    ],
)
def test_parts_are_found_whatever_the_api(
    body: Body, system: list[str], first_user: list[str], last_user: FieldPath | None
) -> None:
    """System prompt, first and last user's text; a system message after a user's belongs to the conversation."""
    assert [each.text for each in system_texts(body)] == system
    assert [each.text for each in first_user_texts(body)] == first_user
    assert last_user_path(body) == last_user


@pytest.mark.parametrize("body", [CHAT, ANTHROPIC, RESPONSES, COMPLETION, SHORT_RESPONSE])
def test_every_text_is_where_its_path_says(body: Body) -> None:
    """No path is there twice, and system prompt and first question are among them."""
    texts = list(all_texts(body))
    assert all(value_at(body, field.path) == field.text for field in texts)
    assert len({field.path for field in texts}) == len(texts)
    assert {*system_texts(body), *first_user_texts(body)} <= set(texts)


def test_paths_are_written_as_people_do() -> None:
    """Numbers in brackets."""
    assert path_text(("messages", 0, "content", 2, "text")) == "messages[0].content[2].text"
    assert path_text(("prompt",)) == "prompt"
    assert path_text(()) == ""


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (TOOLS[0], "book"),
        ({"name": "book", "input_schema": {}}, "book"),
        ({"type": "web_search"}, "web_search"),
        ({"type": "function", "function": {"name": 5}}, "function"),
        ({}, ""),
    ],
)
def test_tools_have_names_in_each_api(tool: Body, name: str) -> None:
    """OpenAI's, Anthropic's, and those that the provider runs, which have a type only."""
    assert tool_name(tool) == name


@pytest.mark.parametrize("tools", [None, "book", {"name": "book"}, [1], [{"name": "a"}, None]])
def test_what_is_no_list_of_tools_is_none(tools: object) -> None:
    """The model's renderer will say what is wrong with it."""
    assert tool_list({"tools": tools}) == []


def test_messages_that_are_not_all_objects_are_none() -> None:
    """A list of strings is several prompts."""
    assert message_list({"input": ["one", "two"]}) == ("input", [])
    assert message_list({"messages": "text", "input": [{"role": "user"}]}) == ("input", [{"role": "user"}])
    assert message_list({}) == ("messages", [])


json_values = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


def paths(value: Any, path: FieldPath = ()) -> list[FieldPath]:
    """All places in a value."""
    if isinstance(value, dict):
        inner = [found for key in value for found in paths(value[key], (*path, key))]
    elif isinstance(value, list):
        inner = [found for index, each in enumerate(value) for found in paths(each, (*path, index))]
    else:
        inner = []
    return [path, *inner] if path else inner


@given(st.dictionaries(st.text(max_size=2), json_values, min_size=1, max_size=3), st.data())
def test_one_value_is_changed_and_no_other(body: Body, data: st.DataObject) -> None:
    """The original stays, what is not on the way is the very same object, and putting the old value back undoes it."""
    path = data.draw(st.sampled_from(paths(body)))
    before, old = deepcopy(body), value_at(body, path)
    changed = with_value(body, path, "new")
    assert body == before
    assert value_at(changed, path) == "new"
    assert with_value(changed, path, old) == body
    assert all(changed[key] is body[key] for key in body if key != path[0])
    assert list(changed) == list(body)


def test_a_role_may_be_any_json() -> None:
    """A log is not checked: what is no role is none of the system's."""
    for role in ([], {}, 7, None):
        assert system_texts({"messages": [{"role": role, "content": "text"}]}) == []

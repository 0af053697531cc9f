"""Lists of tools, whatever their order."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audit import tool_sets
from serve_app.audit.log_file import LogPlace
from serve_app.audit.tool_sets import ToolSets, by_name, in_order, with_sorted_keys
from tests.serve_app.audit.logs import TOOLS, Body, tool

PLACE = LogPlace(Path("log"), 1, 0)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def reversed_keys(value: Any) -> Any:
    """The same, with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return list(map(reversed_keys, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("key", ["required", "enum"])
def test_a_schema_whose_names_come_in_another_order_is_the_same(key: str) -> None:
    """Another order is another style; lists of other keys keep theirs, as it may mean something."""
    one, other = ({"name": "book", "input_schema": {key: names}} for names in (["id", "date"], ["date", "id"]))
    assert in_order([one]) == in_order([other])
    sets = ToolSets()
    read, other_read = sets.read([one]), sets.read([other])
    assert read.text == other_read.text
    assert read.key_orders != other_read.key_orders
    assert with_sorted_keys({"prefixItems": ["id", "date"]}) == {"prefixItems": ["id", "date"]}


@given(values)
def test_sorting_keys_changes_nothing_else(value: Any) -> None:
    """It says the same, once is as good as twice, and the order before does not matter."""
    ordered = with_sorted_keys(value)
    assert ordered == value
    assert json.dumps(with_sorted_keys(ordered)) == json.dumps(ordered)
    assert json.dumps(with_sorted_keys(reversed_keys(value))) == json.dumps(ordered)
    assert json.dumps(ordered) == json.dumps(value, sort_keys=True)


@given(st.permutations(TOOLS))
def test_any_order_of_tools_is_one_set(tools: list[Body]) -> None:
    """With one text; the order itself is noted."""
    sets = ToolSets()
    usual, other = sets.read(TOOLS), sets.read(tools)
    assert sets.see(usual, 1, PLACE) is sets.see(other, 2, PLACE)
    assert usual.text == other.text
    assert by_name(tools) == list(TOOLS)
    (found,) = sets.all()
    assert (found.num_requests, found.order.num_others) == (2, int(list(tools) != list(TOOLS)))
    assert found.keys.num_others == 0


def test_other_names_are_another_set() -> None:
    """One tool more is another set, and so is one that is there twice; another description is not."""
    sets = ToolSets()
    described = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "description": "Another."}}, *TOOLS[1:]]
    lists: list[list[Body]] = [
        list(TOOLS),
        [*TOOLS, tool("pay")],
        [*TOOLS, TOOLS[0]],
        list(TOOLS[:3]),
        described,  # type: ignore[list-item]
    ]
    numbers = [sets.see(sets.read(tools), number, PLACE).number for number, tools in enumerate(lists, 1)]
    assert numbers == [1, 2, 3, 4, 1]
    assert sets.all()[0].keys.num_others == 0


def test_the_order_of_keys_is_noted_wherever_it_is() -> None:
    """In the tool, and deep in its schema; the order of the tools is no such difference."""
    sets = ToolSets()
    deep = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "parameters": reversed_keys(tool("book")["function"])}}]
    plain = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "parameters": tool("book")["function"]}}]
    for number, tools in enumerate((plain, plain, deep), 1):
        sets.see(sets.read(tools), number, PLACE)
    (found,) = sets.all()
    assert (found.keys.num_others, found.order.num_others) == (1, 0)
    assert in_order(deep) == in_order(plain)
    assert json.dumps(in_order(deep)) == json.dumps(in_order(plain))


def test_tools_of_one_name_stay_in_their_order() -> None:
    """Which of them is meant may depend on it."""
    twins = [{"name": "a", "description": "first"}, {"name": "a", "description": "second"}]
    assert by_name([*twins, {"name": "0"}]) == [{"name": "0"}, *twins]


def test_the_oldest_set_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lists a log has; a list that was forgotten is a new set when it comes again."""
    monkeypatch.setattr(tool_sets, "MAX_SETS", 2)
    monkeypatch.setattr(tool_sets, "MAX_KNOWN", 2)
    sets = ToolSets()
    numbers = [sets.see(sets.read([tool(name)]), 1, PLACE).number for name in ("a", "b", "b", "c", "a")]
    assert numbers == [1, 2, 2, 3, 4]
    assert sets.find(sets.read([tool("b")])) is None
    assert len(sets.all()) == 2

"""Lists of tools: in which orders they come, and how their schemas are written."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import xxhash

from serve_app.audit.layout import tool_name
from serve_app.audit.log_file import LogPlace
from serve_app.audit.text_groups import Style, Use

MAX_KNOWN = 1_024
MAX_SETS = 5_000
UNORDERED = frozenset({"required", "enum"})


class WrittenTools(NamedTuple):
    """A list of tools as it came."""

    names: tuple[str, ...]
    """The tools' names, in their order."""
    key_orders: tuple[int, ...]
    """A hash for each tool, sorted by name, of how the keys of its schema follow each other."""
    text: str
    """The tools in one form that depends on no order: a line for each, sorted by name."""


class ToolSet:
    """Tools of the same names."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.num_requests = 0
        self.order, self.keys = Style(), Style()

    def add(self, tools: WrittenTools, number: int, place: LogPlace) -> None:
        """Count one more request."""
        use = Use(1, number, number, place)
        self.num_requests += 1
        self.order.add(tools.names, use)
        self.keys.add(tools.key_orders, use)


class ToolSets:
    """All sets of tools of a log."""

    def __init__(self) -> None:
        self._names_to_set: OrderedDict[tuple[str, ...], ToolSet] = OrderedDict()
        self._written_to_tools: OrderedDict[bytes, WrittenTools] = OrderedDict()
        self._num_made = 0

    def read(self, tools: Sequence[dict[str, Any]]) -> WrittenTools:
        """How a list of tools is written."""
        written = orjson.dumps(tools)
        known = self._written_to_tools.get(written)
        if known is None:
            known = self._written_to_tools[written] = _read(tools)
            if len(self._written_to_tools) > MAX_KNOWN:
                self._written_to_tools.popitem(last=False)
        return known

    def see(self, tools: WrittenTools, number: int, place: LogPlace) -> ToolSet:
        """A request has these tools."""
        found = self.find(tools)
        if found is None:
            self._num_made += 1
            found = self._names_to_set[tuple(sorted(tools.names))] = ToolSet(self._num_made)
            if len(self._names_to_set) > MAX_SETS:
                self._names_to_set.popitem(last=False)
        found.add(tools, number, place)
        return found

    def find(self, tools: WrittenTools) -> ToolSet | None:
        """The set of a list; None if it was not seen."""
        return self._names_to_set.get(tuple(sorted(tools.names)))

    def all(self) -> list[ToolSet]:
        """All sets, in the order of their first requests."""
        return list(self._names_to_set.values())


def in_order(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tools sorted by name, and the keys of every object sorted."""
    return [with_sorted_keys(tool) for tool in by_name(tools)]


def by_name(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tools sorted by name. Those of one name stay in their order."""
    return sorted(tools, key=tool_name)


def with_sorted_keys(value: Any) -> Any:  # noqa: ANN401  any JSON
    """The same value, with the keys of its objects, and a schema's `required` and `enum`, in alphabetical order."""
    if isinstance(value, dict):
        return {
            key: sorted(value[key]) if _is_unordered(key, value[key]) else with_sorted_keys(value[key])
            for key in sorted(value)
        }
    return list(map(with_sorted_keys, value)) if isinstance(value, list) else value


def _is_unordered(key: str, value: object) -> bool:
    """Whether it is a list of a schema whose order means nothing."""
    return key in UNORDERED and isinstance(value, list) and all(isinstance(item, str) for item in value)


def _read(tools: Sequence[dict[str, Any]]) -> WrittenTools:
    ordered = by_name(tools)
    return WrittenTools(
        tuple(map(tool_name, tools)),
        tuple(map(_key_order, ordered)),
        "\n".join(json.dumps(with_sorted_keys(tool), ensure_ascii=False) for tool in ordered),
    )


def _key_order(tool: dict[str, Any]) -> int:
    """Only of what is the same in one order: another description is another tool, not another order."""
    return xxhash.xxh3_64_intdigest(json.dumps(_shape(tool)).encode())


def _shape(value: Any) -> Any:  # noqa: ANN401  any JSON
    if isinstance(value, dict):
        return [
            [key, list(map(sorted(inner).index, inner)) if _is_unordered(key, inner) else _shape(inner)]
            for key, inner in value.items()
        ]
    return list(map(_shape, value)) if isinstance(value, list) else 0

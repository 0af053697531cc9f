"""One way to write a request, whose meaning is that of all others: what `warmroute audit --fix` does. Pure.

Tools stand in the order of their names, the keys of their schemas and of JSON in system prompts and tool calls are
sorted, and texts are in NFC with line feeds, without invisible characters or spaces at the ends of lines. Nothing is
moved, added or left out.
"""

from typing import Any

from serve_app.audit.layout import all_texts, message_list, system_texts, tool_list, with_value
from serve_app.audit.text_form import with_json_in_order, without_trivia
from serve_app.audit.tool_sets import in_order


def normal_form(body: dict[str, Any]) -> dict[str, Any]:
    """The body in that form; the very same object if it is in it already."""
    changed = body
    tools = tool_list(body)
    if tools:
        ordered = in_order(tools)
        if not _is_same(ordered, tools):
            changed = with_value(changed, ("tools",), ordered)
    system_paths = {each.path for each in system_texts(body)}
    for path, text in all_texts(body):
        normal = without_trivia(text)
        if path in system_paths:
            normal = with_json_in_order(normal)
        if normal != text:
            changed = with_value(changed, path, normal)
    return _with_ordered_calls(changed)


def _with_ordered_calls(body: dict[str, Any]) -> dict[str, Any]:
    name, messages = message_list(body)
    for index, message in enumerate(messages):
        calls = message.get("tool_calls")
        for number, call in enumerate(calls if isinstance(calls, list) else ()):
            function = call.get("function") if isinstance(call, dict) else None
            arguments = function.get("arguments") if isinstance(function, dict) else None
            if isinstance(arguments, str) and (ordered := with_json_in_order(arguments)) != arguments:
                body = with_value(body, (name, index, "tool_calls", number, "function", "arguments"), ordered)
    return body


def _is_same(one: Any, other: Any) -> bool:  # noqa: ANN401  any JSON
    """Equal, and with all keys in the same order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)

"""Bodies for responses: items in place of messages, and flat tools."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.keys.texts import Dialogue, Message

Body = dict[str, Any]
Item = dict[str, Any]


def plain(dialogue: Dialogue) -> Body:
    """The system prompt as instructions, everything else as items."""
    messages = list(dialogue.messages)
    body: Body = {}
    if messages[0]["role"] == "system":
        body["instructions"] = messages.pop(0)["content"]
    return _body(dialogue, messages) | body


def _body(dialogue: Dialogue, messages: Sequence[Message], turn: Callable[[Message], Item] | None = None) -> Body:
    body: Body = {"input": list(_items(messages, turn or _as_message)), "max_output_tokens": 1, "store": False}
    tools = [{"type": "function", **tool["function"]} for tool in dialogue.tools]
    return body | {"tools": tools} if tools else body


def _items(messages: Sequence[Message], turn: Callable[[Message], Item]) -> Iterator[Item]:
    """A message's text and each of its tool calls by itself, as this API has it."""
    for message in messages:
        if message["role"] == "tool":
            yield {
                "type": "function_call_output",
                "call_id": message["tool_call_id"],
                "output": message["content"],
            }
            continue
        if message["content"] is not None:
            yield turn(message)
        for call in message.get("tool_calls") or ():
            yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def _as_message(message: Message) -> Item:
    return {"role": message["role"], "content": message["content"]}


def _as_typed_message(message: Message) -> Item:
    return {"type": "message", **_as_message(message)}


def _in_parts(message: Message) -> Item:
    """The user's text in two parts, and the assistant's as the API's own output."""
    text = message["content"]
    if message["role"] == "assistant":
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": content}
    half = len(text) // 2
    return {
        "role": message["role"],
        "content": [{"type": "input_text", "text": part} for part in (text[:half], text[half:])],
    }


def _as_developer(message: Message) -> Item:
    return _as_message(message | {"role": "developer"} if message["role"] == "system" else message)


def _only_text(dialogue: Dialogue) -> Body | None:
    """The last thing the user said, as a text and not a list."""
    last = dialogue.messages[-1]
    return plain(dialogue) | {"input": last["content"]} if last["role"] == "user" else None


def _reasoned(dialogue: Dialogue) -> Body:
    """A body with a reasoning item before each item of the assistant."""
    body = plain(dialogue)
    reasoning = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "The customer is\nright, I think."}],
    }
    items: list[Item] = []
    for item in body["input"]:
        items += [reasoning, item] if item.get("role") == "assistant" else [item]
    return body | {"input": items}


def _continued(dialogue: Dialogue) -> Body:
    body = plain(dialogue)
    begun = {
        "type": "message",
        "id": "msg_1",
        "status": "incomplete",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "As I said, the", "annotations": []}],
    }
    return body | {"input": [*body["input"], begun]}


def _with_tools(**fields: Any) -> Callable[[Dialogue], Body | None]:  # noqa: ANN401  JSON
    return lambda dialogue: plain(dialogue) | fields if dialogue.tools else None


VARIATIONS: dict[str, Callable[[Dialogue], Body | None]] = {
    "plain": plain,
    "system item": lambda dialogue: _body(dialogue, dialogue.messages),
    "developer item": lambda dialogue: _body(dialogue, dialogue.messages, _as_developer),
    "typed items": lambda dialogue: _body(dialogue, dialogue.messages, _as_typed_message),
    "parts": lambda dialogue: _body(dialogue, dialogue.messages, _in_parts),
    "only text": _only_text,
    "reasoning": _reasoned,
    "reasoning effort": lambda dialogue: plain(dialogue) | {"reasoning": {"effort": "low"}},
    "continued": _continued,
    "tool_choice none": _with_tools(tool_choice="none"),
    "tool_choice required": _with_tools(tool_choice="required"),
    "template arguments": lambda dialogue: plain(dialogue) | {"chat_template_kwargs": {"date_string": "1 Jan 2030"}},
    "salted": lambda dialogue: plain(dialogue) | {"cache_salt": "a tenant"},
}

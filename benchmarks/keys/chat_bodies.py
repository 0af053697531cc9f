"""Bodies for chat completions."""

from collections.abc import Callable
from typing import Any

from benchmarks.keys.texts import Dialogue, Message

Body = dict[str, Any]


def plain(dialogue: Dialogue) -> Body:
    """Messages, and tools where there are some."""
    body: Body = {"messages": list(dialogue.messages), "max_tokens": 1}
    return body | {"tools": list(dialogue.tools)} if dialogue.tools else body


def _with(**fields: Any) -> Callable[[Dialogue], Body]:  # noqa: ANN401  JSON
    return lambda dialogue: plain(dialogue) | fields


def _with_tools(**fields: Any) -> Callable[[Dialogue], Body | None]:  # noqa: ANN401  JSON
    return lambda dialogue: plain(dialogue) | fields if dialogue.tools else None


def _each_message(change: Callable[[Message], Message]) -> Callable[[Dialogue], Body]:
    return lambda dialogue: plain(dialogue) | {"messages": [change(message) for message in dialogue.messages]}


def _in_parts(message: Message) -> Message:
    """Its text as a list of two parts."""
    text = message["content"]
    if not isinstance(text, str) or message["role"] == "tool":
        return message
    half = len(text) // 2
    return message | {"content": [{"type": "text", "text": part} for part in (text[:half], text[half:])]}


def _as_developer(message: Message) -> Message:
    return message | {"role": "developer"} if message["role"] == "system" else message


def _reasoned(field: str) -> Callable[[Message], Message]:
    return lambda message: (
        message | {field: "The customer is\nright, I think."} if message["role"] == "assistant" else message
    )


def _named(message: Message) -> Message:
    return message | {"name": "someone"} if message["role"] == "user" else message


def _as_a_client_library_writes(message: Message) -> Message:
    """The message with the fields of the answer that it is."""
    empty: Message = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
    return empty | message if message["role"] == "assistant" else message


def _without_null(message: Message) -> Message:
    return {name: value for name, value in message.items() if value is not None}


def _continued(dialogue: Dialogue) -> Body:
    messages = [*dialogue.messages, {"role": "assistant", "content": "As I said, the"}]
    return plain(dialogue) | {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}


VARIATIONS: dict[str, Callable[[Dialogue], Body | None]] = {
    "plain": plain,
    "parts": _each_message(_in_parts),
    "tool_choice none": _with_tools(tool_choice="none"),
    "tool_choice auto": _with_tools(tool_choice="auto"),
    "tool_choice required": _with_tools(tool_choice="required"),
    "no parallel calls": _with_tools(parallel_tool_calls=False),
    "template arguments": _with(chat_template_kwargs={"enable_thinking": False, "date_string": "1 Jan 2030"}),
    "developer": _each_message(_as_developer),
    "reasoning": _each_message(_reasoned("reasoning")),
    "reasoning_content": _each_message(_reasoned("reasoning_content")),
    "reasoning effort": _with(reasoning_effort="low"),
    "continued": _continued,
    "no generation prompt": _with(add_generation_prompt=False),
    "special tokens": _with(add_special_tokens=True),
    "truncated": _with(truncate_prompt_tokens=100),
    "salted": _with(cache_salt="a tenant"),
    "JSON object": _with(response_format={"type": "json_object"}),
    "named users": _each_message(_named),
    "client library": _each_message(_as_a_client_library_writes),
    "no content": _each_message(_without_null),
    # No `seed`: vLLM's engine for CPUs dies of it when other requests are served at the same time.
    "sampling": _with(temperature=0.5, top_p=0.9, stop=["\n\n"], user="u", session_id="s", logprobs=False),
    "max_completion_tokens": _with(max_completion_tokens=1),
}

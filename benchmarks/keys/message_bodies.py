"""Bodies for Anthropic messages: the system prompt apart, and tool calls and results as blocks of content."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.keys.texts import Dialogue, Message

Body = dict[str, Any]
Block = dict[str, Any]


def plain(dialogue: Dialogue) -> Body:
    """Texts as texts; only tool calls and results are blocks, for the API has no other form for them."""
    return _body(dialogue, dialogue.messages)


def _body(dialogue: Dialogue, messages: Sequence[Message]) -> Body:
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    body: Body = {"messages": list(_turns(messages if system is None else messages[1:])), "max_tokens": 1}
    if system is not None:
        body["system"] = system
    tools = [
        {"name": function["name"], "description": function["description"], "input_schema": function["parameters"]}
        for function in (tool["function"] for tool in dialogue.tools)
    ]
    return body | {"tools": tools} if tools else body


def _turns(messages: Sequence[Message]) -> Iterator[Message]:
    for message in messages:
        if message["role"] == "tool":
            yield {"role": "user", "content": [_result(message)]}
        elif message.get("tool_calls"):
            text = [_text(message["content"])] if message["content"] else []
            yield {"role": "assistant", "content": [*text, *map(_use, message["tool_calls"])]}
        else:
            yield {"role": message["role"], "content": message["content"]}


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _use(call: dict[str, Any]) -> Block:
    function = call["function"]
    arguments = json.loads(function["arguments"])
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}


def _result(message: Message) -> Block:
    return {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}


def _halves(text: str) -> list[Block]:
    half = len(text) // 2
    return [_text(part) for part in (text[:half], text[half:])]


def _each_turn(dialogue: Dialogue, change: Callable[[Message], Message]) -> Body:
    body = plain(dialogue)
    return body | {"messages": [change(message) for message in body["messages"]]}


def _in_blocks(message: Message) -> Message:
    """Texts in two blocks, the second marked as clients mark what shall be cached; results in blocks of their own."""
    content = message["content"]
    if isinstance(content, str):
        blocks = [*_halves(content)[:1], _halves(content)[1] | {"cache_control": {"type": "ephemeral"}}]
    else:
        blocks = [block | {"content": _halves(block["content"])} if "content" in block else block for block in content]
    return message | {"content": blocks}


def _in_one_block(message: Message) -> Message:
    content = message["content"]
    return message | {"content": [_text(content)]} if isinstance(content, str) else message


def _thought(message: Message) -> Message:
    """The assistant's turns begin with a thinking block."""
    if message["role"] != "assistant":
        return message
    thinking = {"type": "thinking", "thinking": "The customer is\nright, I think.", "signature": "none"}
    return _in_one_block(message) | {"content": [thinking, *_in_one_block(message)["content"]]}


def _failed(message: Message) -> Message:
    content = message["content"]
    if isinstance(content, str):
        return message
    return message | {"content": [b | {"is_error": True} if b["type"] == "tool_result" else b for b in content]}


def _system_in_blocks(dialogue: Dialogue) -> Body | None:
    """The first is the line with which one client counts its requests; vLLM leaves it out."""
    body = plain(dialogue)
    if "system" not in body:
        return None
    return body | {"system": [_text("x-anthropic-billing-header: cch=123"), *_halves(body["system"])]}


def _reminded(dialogue: Dialogue) -> Body | None:
    """A system message among the others, besides the system prompt."""
    body = plain(dialogue)
    if "system" not in body:
        return None
    return body | {"messages": [*body["messages"], {"role": "system", "content": "Remember: be brief."}]}


def _with_tools(choice: Callable[[Dialogue], dict[str, Any]]) -> Callable[[Dialogue], Body | None]:
    return lambda dialogue: plain(dialogue) | {"tool_choice": choice(dialogue)} if dialogue.tools else None


VARIATIONS: dict[str, Callable[[Dialogue], Body | None]] = {
    "plain": plain,
    "blocks": lambda dialogue: _each_turn(dialogue, _in_blocks),
    "one block each": lambda dialogue: _each_turn(dialogue, _in_one_block),
    "system in blocks": _system_in_blocks,
    "system among messages": _reminded,
    "thinking": lambda dialogue: _each_turn(dialogue, _thought),
    "failed tools": lambda dialogue: _each_turn(dialogue, _failed) if dialogue.tools else None,
    "tool_choice auto": lambda dialogue: plain(dialogue) | {"tool_choice": {"type": "auto"}},  # tools or none
    "tool_choice none": _with_tools(lambda _: {"type": "none"}),
    "tool_choice any": _with_tools(lambda _: {"type": "any"}),
    "tool_choice tool": _with_tools(lambda dialogue: {"type": "tool", "name": dialogue.tools[0]["function"]["name"]}),
    "effort": lambda dialogue: plain(dialogue) | {"output_config": {"effort": "low"}},
    "template arguments": lambda dialogue: plain(dialogue) | {"chat_template_kwargs": {"date_string": "1 Jan 2030"}},
    "stop sequences": lambda dialogue: plain(dialogue) | {"stop_sequences": ["\n\n"], "metadata": {"user_id": "u"}},
    "salted": lambda dialogue: plain(dialogue) | {"cache_salt": f"{dialogue.source} {dialogue.number}"},
}

"""What is learned of chats, and what is left to vLLM."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from serve_app.prompt.chat_memo import (
    FORM_BYTES,
    IRRELEVANT_FIELDS,
    RELEVANT_FIELDS,
    SHAPE_BYTES,
    ChatMemo,
    Form,
    Message,
)

CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
USER = {"role": "user", "content": "Hello"}
TOOL_CALL = {"role": "assistant", "content": None, "tool_calls": [CALL]}
CONTENT_BYTES = 1000
TOOL_RESULT = {"role": "tool", "content": "found", "tool_call_id": "c1"}


def parse(message: Message) -> Message:
    """Parse as vLLM might: users' content in parts, what tools are called with as an object."""
    if message["role"] == "user":
        return {**message, "content": [{"type": "text", "text": message["content"]}]}
    if "tool_calls" in message:
        return {"role": message["role"], "calls": [call["function"] for call in message["tool_calls"]]}
    return dict(message)


def render(conversation: Sequence[Message]) -> str:
    """All of what was parsed."""
    return "|".join(map(str, conversation))


def slow(fields: Mapping[str, Any]) -> str:
    """vLLM's way."""
    return render([parse(message) for message in fields["messages"]])


def read(memo: ChatMemo, *messages: Any, **others: Any) -> tuple[bool, str]:
    """Whether the memo knew the text, and the text, of which it learns."""
    fields = {"model": "m", "messages": list(messages), **others}
    text = memo.text(fields)
    if text is not None:
        return True, text
    conversation = [parse(message) for message in messages]
    memo.learn(fields, conversation, lambda: Form(parse=parse, render=render, content_bytes=CONTENT_BYTES))
    return False, render(conversation)


def test_a_shape_that_was_seen_is_known() -> None:
    """Whatever its content, and with other irrelevant fields."""
    memo = ChatMemo(max_bytes=2**20)
    assert not read(memo, USER)[0]
    others = {"max_tokens": 3, "temperature": 0.5, "stream": True, "user": "ann"}
    long = [USER, {"role": "user", "content": "a <|im_start|> b"}]
    assert read(memo, *long, **others) == (True, slow({"messages": long}))


def test_each_shape_is_learned_in_its_own_way() -> None:
    """Parts, as it is, and by vLLM's own function."""
    memo = ChatMemo(max_bytes=2**20)
    conversation = [USER, TOOL_CALL, TOOL_RESULT, {"role": "assistant", "content": "Done"}]
    assert not read(memo, *conversation)[0]
    other_call = {**CALL, "id": "c2", "function": {"name": "book", "arguments": "{}"}}
    more = [*conversation, USER, {**TOOL_CALL, "tool_calls": [other_call, CALL]}, {**TOOL_RESULT, "content": "booked"}]
    assert read(memo, *more) == (True, slow({"messages": more}))


def test_a_tool_call_without_any_content_is_learned() -> None:
    """Many clients leave `content` out where it would be null; the memo once failed there, and there was no key."""
    memo = ChatMemo(max_bytes=2**20)
    call = {name: value for name, value in TOOL_CALL.items() if name != "content"}
    assert not read(memo, USER, call, TOOL_RESULT)[0]
    assert read(memo, USER, call, TOOL_RESULT, USER) == (True, slow({"messages": [USER, call, TOOL_RESULT, USER]}))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "user", "content": None},
        {"role": "user", "content": "Hello", "cache_control": {"type": "ephemeral"}},
        {"role": "user", "content": "Hello", "name": 7},
        {"role": "assistant", "content": "x", "reasoning_content": "because"},
        {**TOOL_CALL, "tool_calls": [{**CALL, "type": "custom"}]},
        {**TOOL_CALL, "tool_calls": [{**CALL, "function": {"name": "find", "arguments": {}}}]},
        {**TOOL_CALL, "tool_calls": [{**CALL, "index": 0}]},
        {**TOOL_CALL, "tool_calls": {}},
        {**TOOL_CALL, "tool_calls": []},
        {"content": "Hello"},
        "Hello",
        None,
    ],
)
def test_what_is_not_simple_is_vllms(message: Any) -> None:
    """However often it comes."""
    memo = ChatMemo(max_bytes=2**20)
    fields = {"model": "m", "messages": [USER, message]}
    for _ in range(2):
        memo.learn(fields, [parse(USER), {}], lambda: Form(parse=parse, render=render, content_bytes=CONTENT_BYTES))
        assert memo.text(fields) is None
    assert memo.text({"model": "m", "messages": [USER]}) is not None


@pytest.mark.parametrize("name", ["add_generation_prompt", "continue_final_message", "chat_template", "documents", "x"])
def test_a_request_with_any_other_field_is_vllms(name: str) -> None:
    """It may change the text in ways that are not looked for."""
    memo = ChatMemo(max_bytes=2**20)
    for _ in range(2):
        assert not read(memo, USER, **{name: True})[0]


@pytest.mark.parametrize("wrong", [{"temperature": "hot"}, {"stream": "yes"}, {"stop": 7}, {"logit_bias": [1]}])
def test_a_field_of_a_wrong_type_is_for_vllm_to_refuse(wrong: dict[str, Any]) -> None:
    """Though no token depends on it."""
    memo = ChatMemo(max_bytes=2**20)
    read(memo, USER)
    fields = {"model": "m", "messages": [USER]}
    assert memo.text(fields | wrong) is None
    assert memo.text(fields | dict.fromkeys(wrong)) is not None


@pytest.mark.parametrize("messages", [None, [], "Hello", {}])
def test_no_conversation_is_vllms(messages: Any) -> None:
    """It has something to say about that."""
    memo = ChatMemo(max_bytes=2**20)
    read(memo, USER)
    assert memo.text({"model": "m", "messages": messages}) is None


def test_other_tools_are_another_form() -> None:
    """Whose order does not matter to the key, and whose content does."""
    memo = ChatMemo(max_bytes=2**20)
    tool = {"type": "function", "function": {"name": "find", "parameters": {"a": 1, "b": 2}}}
    assert not read(memo, USER, tools=[tool])[0]
    assert read(memo, USER, tools=[tool])[0]
    assert not read(memo, USER)[0]
    other = {"type": "function", "function": {"name": "find", "parameters": {"a": 1, "b": 3}}}
    assert not read(memo, USER, tools=[other])[0]
    assert not read(memo, USER, tools=[tool], tool_choice="none")[0]


def test_tools_whose_keys_are_in_another_order_are_another_form() -> None:
    """The template writes them in their order; the memo once took both for one."""
    memo = ChatMemo(max_bytes=2**20)
    tool = {"type": "function", "function": {"name": "find", "parameters": {"a": 1, "b": 2}}}
    turned = {"function": {"parameters": {"b": 2, "a": 1}, "name": "find"}, "type": "function"}
    assert not read(memo, USER, tools=[tool])[0]
    assert not read(memo, USER, tools=[turned])[0]
    assert read(memo, USER, tools=[tool])[0]


def test_a_form_that_cannot_be_made_is_not_kept() -> None:
    """The text that would be rendered is another than vLLM's."""
    memo = ChatMemo(max_bytes=2**20)
    fields = {"model": "m", "messages": [USER]}
    memo.learn(fields, [parse(USER)], lambda: None)
    assert memo.text(fields) is None


def test_a_message_that_vllm_turns_otherwise_is_not_learned() -> None:
    """Not even by its own function."""
    memo = ChatMemo(max_bytes=2**20)
    fields = {"model": "m", "messages": [USER]}
    memo.learn(
        fields,
        [{"role": "user", "content": "something else"}],
        lambda: Form(parse=parse, render=render, content_bytes=CONTENT_BYTES),
    )
    assert memo.text(fields) is None


def test_forms_are_bounded_and_the_oldest_goes() -> None:
    """As every client may have tools of its own, of any size."""
    max_bytes = 3 * (FORM_BYTES + 2 * SHAPE_BYTES + CONTENT_BYTES)
    memo = ChatMemo(max_bytes=max_bytes)
    for number in range(6):
        for messages in ([USER], [USER, TOOL_CALL]):
            read(memo, *messages, tools=[number])
            assert memo.num_bytes <= max_bytes
    assert memo.num_bytes == max_bytes
    assert [read(memo, USER, TOOL_CALL, tools=[number])[0] for number in (3, 4, 5, 2)] == [True, True, True, False]


def test_once_wrong_nothing_is_known_any_more() -> None:
    """Nor learned."""
    memo = ChatMemo(max_bytes=2**20)
    read(memo, USER)
    memo.forget()
    for _ in range(2):
        assert not read(memo, USER)[0]


def test_every_field_of_a_chat_is_accounted_for() -> None:
    """A name that vLLM does not know would be a mistake here."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    foreign = {"metadata", "prompt_cache_key", "safety_identifier", "service_tier", "session_id", "store"}
    assert (IRRELEVANT_FIELDS.keys() | RELEVANT_FIELDS) - ChatCompletionRequest.model_fields.keys() <= foreign

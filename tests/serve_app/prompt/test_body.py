"""Bodies without their path."""

import pytest

from serve_app.prompt.body import (
    COMPLETION_TOKENS,
    Unreadable,
    UnreadableError,
    is_anthropic,
    max_answer_tokens_of,
    num_choices_of,
    num_prompts_of,
    num_sequences_of,
    parse_body,
    session_id_of,
)

WRONG_COUNTS = [0, -1, -(10**30), "", "many", "1e3", "0", 1.5, float("nan"), float("inf"), False, None, [7], {"n": 7}]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Unreadable.EMPTY_BODY),
        (b'{"model": "x"', Unreadable.NOT_JSON),
        (b"[1]", Unreadable.NOT_JSON),
        (b'"text"', Unreadable.NOT_JSON),
        (b"\xff\xfe", Unreadable.NOT_JSON),
        (b"null", Unreadable.NOT_JSON),
    ],
)
def test_what_is_not_an_object_is_named(body: bytes, reason: Unreadable) -> None:
    """The reason goes into a header and a counter."""
    with pytest.raises(UnreadableError) as caught:
        parse_body(body)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, False),
        ({"messages": [], "system": "be kind"}, True),
        ({"messages": [], "stop_sequences": ["x"]}, True),
        ({"messages": [], "output_config": {"effort": "low"}}, True),  # a template may write the effort
        ({"messages": [], "tool_choice": {"type": "auto"}}, True),  # refused as a chat, so there was no key
        ({"messages": [], "tool_choice": {"type": "function", "function": {"name": "f"}}}, False),
        ({"messages": [], "tool_choice": "auto"}, False),
        ({"messages": [], "tools": [{"name": "f", "input_schema": {}}]}, True),
        ({"messages": [], "tools": [{"type": "function", "function": {"name": "f"}}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, False),
        ({"messages": None}, False),
        ({"messages": "text"}, False),
        ({"messages": [None, 1, {"content": None}], "tools": "none"}, False),
    ],
)
def test_the_messages_api_is_told_by_its_own_fields(fields: dict[str, object], expected: bool) -> None:
    """Whatever a client may send."""
    assert is_anthropic(fields) is expected


@pytest.mark.parametrize("value", [7, 1.5, True, None, "", [], ["key"], {}, {"key": "key"}])
def test_a_session_of_a_wrong_type_is_none(value: object) -> None:
    """Refusing it is vLLM's business; the other field still counts."""
    assert session_id_of({"prompt_cache_key": value}) == ""
    assert session_id_of({"session_id": value, "prompt_cache_key": "key"}) == "key"


def test_a_persons_id_is_no_session() -> None:
    """Anthropic's clients send one for all conversations of a user, OpenAI's too."""
    assert session_id_of({"metadata": {"user_id": "ann"}, "user": "ann", "safety_identifier": "ann"}) == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"messages": [], "max_tokens": 7}, 7),  # chat, and Anthropic's messages
        ({"messages": [], "max_completion_tokens": 7}, 7),
        ({"messages": [], "max_completion_tokens": 7, "max_tokens": 9}, 7),
        ({"messages": [], "max_completion_tokens": None, "max_tokens": 9}, 9),
        ({"messages": [], "max_output_tokens": 7}, None),
        ({"messages": [], "max_tokens": 7, "n": 3}, 7),
        ({"messages": []}, None),
        ({"input": "text", "max_output_tokens": 7}, 7),
        ({"input": "text", "max_tokens": 7}, None),
        ({"prompt": "text", "max_tokens": 7}, 7),
        ({"prompt": ["one", "two"], "max_tokens": 7}, 7),
        ({"prompt": "text"}, COMPLETION_TOKENS),
        ({"prompt": "text", "max_tokens": None}, COMPLETION_TOKENS),
        ({"max_tokens": 7}, 7),
        ({}, None),
    ],
)
def test_each_api_has_its_own_field_for_the_longest_answer(fields: dict[str, object], expected: int | None) -> None:
    """Of one choice. Others' fields mean nothing to it; a completion without any has OpenAI's default."""
    assert max_answer_tokens_of(fields) == expected


@pytest.mark.parametrize("value", [0, -1, 2**31, 10**30, True, False, "7", 7.0, float("nan"), [7], {"max": 7}])
@pytest.mark.parametrize(
    ("prompt", "name"),
    [("messages", "max_tokens"), ("messages", "max_completion_tokens"), ("input", "max_output_tokens")],
)
def test_a_wrong_or_endless_limit_is_none(prompt: str, name: str, value: object) -> None:
    """Whatever a client may send, a limit is a number of tokens that some context could have."""
    assert max_answer_tokens_of({prompt: "text", name: value}) is None
    assert max_answer_tokens_of({"prompt": "text", "max_tokens": value}) is None


@pytest.mark.parametrize(
    ("fields", "num_prompts", "num_choices"),
    [
        ({}, 1, 1),
        ({"messages": [{"role": "user", "content": "hi"}]}, 1, 1),
        ({"messages": [{"role": "user", "content": "hi"}], "n": 10_000}, 1, 10_000),
        ({"messages": [{"role": "user", "content": "hi"}], "n": 10_000, "use_beam_search": True}, 1, 10_000),
        ({"messages": [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]]}, 2, 1),
        ({"input": [{"role": "user", "content": "hi"}, {"role": "user", "content": "ho"}]}, 1, 1),
        ({"prompt": "text"}, 1, 1),
        ({"prompt": ["one", "two"]}, 2, 1),
        ({"prompt": ["one", "two"], "n": 3}, 2, 3),
        ({"prompt": [1, 2, 3]}, 1, 1),
        ({"prompt": [[1, 2], [3]]}, 2, 1),
        ({"prompt": []}, 1, 1),
        ({"prompt": None, "prompt_embeds": ["a", "b"]}, 2, 1),
        ({"prompt": "text", "prompt_embeds": "a"}, 2, 1),
        ({"prompt": ["one", "two"], "messages": [{"role": "user", "content": "hi"}]}, 2, 1),
        ({"prompt": {"text": "one"}, "messages": 7}, 1, 1),
    ],
)
def test_sequences_are_answers_to_prompts(fields: dict[str, object], num_prompts: int, num_choices: int) -> None:
    """As many as vLLM makes of the body, by whichever API it is read."""
    assert (num_prompts_of(fields), num_choices_of(fields)) == (num_prompts, num_choices)
    assert num_sequences_of(fields) == num_prompts * num_choices


@pytest.mark.parametrize("wrong", WRONG_COUNTS)
def test_a_wrong_number_of_answers_is_one(wrong: object) -> None:
    """It is refused by vLLM, before anything is computed."""
    assert num_choices_of({"prompt": "text", "n": wrong}) == 1


@pytest.mark.parametrize("value", [3, "3", " 3 ", "+3", "3.0", 3.0, True, 10**30, "1_0", *WRONG_COUNTS])
def test_a_number_of_answers_is_read_as_vllm_does(value: object) -> None:
    """Or a text would be many sequences there, and one here."""
    from pydantic import ValidationError
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    try:
        made = CompletionRequest.model_validate({"prompt": "text", "n": value}).n
    except ValidationError:
        made = 1
    assert num_choices_of({"prompt": "text", "n": value}) == max(1, made)

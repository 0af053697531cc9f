"""Texts and requests in one form."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audit.normal_form import normal_form
from serve_app.audit.text_form import in_order, with_json_in_order, without_trivia
from serve_app.audit.tool_sets import in_order as tools_in_order
from tests.serve_app.audit.logs import TOOLS, chat

texts = st.text(st.sampled_from('ab e\u0301\u00e9 \t\n\r\u200b\ufeff{}[]":,1.0'), max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=5), values, min_size=1, max_size=5)


@given(texts)
def test_a_form_is_one(text: str) -> None:
    """What is in order stays so, and shows nothing that was not."""
    form = in_order(text)
    assert in_order(form.text).text == form.text
    assert without_trivia(without_trivia(text)) == without_trivia(text)
    if without_trivia(text) == text:
        assert form.trivia == ()


@given(texts)
def test_only_trivia_go(text: str) -> None:
    """Every other character stays, in its order."""

    def essence(content: str) -> str:
        visible = content.replace("\u200b", "").replace("\ufeff", "")
        return "".join(unicodedata.normalize("NFC", visible).split())

    assert essence(without_trivia(text)) == essence(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a \r\nb\t\rc\n\n", "a\nb\nc"),
        ("cafe\u0301", "caf\u00e9"),
        ("\ufeffzero\u200b width", "zero width"),
        ("  indented stays\n  too", "indented stays\n  too"),
        ("a\u200db: emoji need joiners", "a\u200db: emoji need joiners"),
    ],
)
def test_trivia(text: str, expected: str) -> None:
    """What they are."""
    assert without_trivia(text) == expected


@given(objects, st.sampled_from([None, 1, 2, 4]), st.booleans())
def test_json_says_the_same_in_one_way(value: dict[str, Any], indent: int | None, is_sorted: bool) -> None:
    """However it was written."""
    written = json.dumps(value, indent=indent, sort_keys=is_sorted, ensure_ascii=False)
    ordered = with_json_in_order(f"See {written} there")
    plain = with_json_in_order(f"See {json.dumps(value, ensure_ascii=False)} there")
    if len(written) >= 16:
        found = ordered.removeprefix("See ").removesuffix(" there")
        assert json.loads(found) == value
    if min(len(written), len(json.dumps(value, ensure_ascii=False))) >= 16 and "{" in written[1:]:
        assert ordered == plain


@pytest.mark.parametrize(
    "text",
    [
        'Numbers stay as they are: {"price": 2.50, "amount": 1}',
        'So do keys that are there twice: {"a": 1, "a": 2, "b": 3}',
        'This is no JSON: {name} and [x, y] and {"a": }',
        'Code: if (x) { return ["a"]; }',
    ],
)
def test_what_could_change_its_meaning_is_left_alone(text: str) -> None:
    """As it stands."""
    assert with_json_in_order(text) == text


def test_styles_tell_ways_of_writing_apart_and_not_contents() -> None:
    """Two requests with other values in the same style are alike."""
    one, same, other = (
        in_order(text).json_style
        for text in ('{"b": 1, "a": {"c": 2}}', '{"b": 7, "a": {"c": "x"}}', '{"b":1,"a":{"c":2}}')
    )
    assert one == same != other


def test_a_request_in_normal_form_means_the_same() -> None:
    """Tools by name with sorted keys, texts without trivia, arguments of calls sorted; nothing else is touched."""
    call = {"id": "c", "type": "function", "function": {"name": "book", "arguments": '{"seat": "1A", "bags": 2}'}}
    body = chat("Policy \r\n", "Hello ", tools=tuple(reversed(TOOLS)), temperature=0.5)
    body["messages"].append({"role": "assistant", "content": None, "tool_calls": [call]})
    fixed = normal_form(body)
    assert [each["function"]["name"] for each in fixed["tools"]] == ["book", "cancel", "find", "refund"]
    assert sorted(map(json.dumps, tools_in_order(TOOLS))) == sorted(map(json.dumps, fixed["tools"]))
    assert [each["content"] for each in fixed["messages"]] == ["Policy", "Hello", None]
    assert fixed["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"bags": 2, "seat": "1A"}'
    assert fixed["temperature"] == 0.5
    assert normal_form(fixed) is fixed


@given(texts, texts.map(lambda text: text.replace("\r", "")), st.permutations(TOOLS))
def test_the_normal_form_is_one(system: str, question: str, tools: list[dict[str, Any]]) -> None:
    """Of requests that differ in nothing but how they are written, and of itself."""
    fixed = normal_form(chat(system, question, tools=tools))
    assert normal_form(fixed) is fixed
    assert json.dumps(normal_form(chat(system + " ", question.replace("\n", "\r\n"), tools=TOOLS))) == json.dumps(
        normal_form(chat(system, question, tools=tools))
    )

"""Bodies without their path."""

import pytest

from serve_app.request_body import Unreadable, UnreadableError, is_anthropic, parse_body


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

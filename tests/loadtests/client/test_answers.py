"""A whole answer is told from an error and from one that only stopped, for each API."""

import json

import pytest

from loadtests.client.answers import EventStream, Outcome, error_shape


def choice(finish: str | None = None, index: int = 0) -> str:
    """A chunk of a chat or text completion."""
    return data({"choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": finish}]})


def data(event: object) -> str:
    """An event's line."""
    return f"data: {json.dumps(event)}"


DONE = "data: [DONE]"
MESSAGE = [data({"type": "message_start"}), data({"type": "content_block_delta"})]
MESSAGE_END = [data({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 4}})]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([choice(), choice("length"), DONE], Outcome.COMPLETE),
        ([choice(), choice("length")], Outcome.CUT),
        ([choice(), DONE], Outcome.CUT),
        ([DONE], Outcome.CUT),
        ([], Outcome.CUT),
        ([choice("length"), choice("length", 1), DONE], Outcome.COMPLETE),
        ([choice("length"), choice(None, 1), DONE], Outcome.CUT),
        ([choice("length"), choice(), DONE], Outcome.COMPLETE),
        ([choice(), data({"error": {"message": "EngineCore died"}}), DONE], Outcome.ERROR_EVENT),
        ([choice("length"), 'data: {"choi'], Outcome.CUT),
        ([": keep-alive", "", choice("stop"), DONE], Outcome.COMPLETE),
        ([*MESSAGE, *MESSAGE_END, data({"type": "message_stop"})], Outcome.COMPLETE),
        ([*MESSAGE, *MESSAGE_END], Outcome.CUT),
        ([*MESSAGE, data({"type": "message_stop"})], Outcome.CUT),
        ([*MESSAGE, "event: error", data({"type": "error", "error": {"type": "internal_error"}})], Outcome.ERROR_EVENT),
        ([data({"type": "response.completed", "response": {"status": "incomplete"}})], Outcome.COMPLETE),
        ([data({"type": "response.created", "response": {"status": "in_progress"}})], Outcome.CUT),
        ([data({"type": "response.failed", "response": {"status": "failed"}})], Outcome.ERROR_EVENT),
    ],
)
def test_a_streams_end_tells_what_it_was(lines: list[str], expected: Outcome) -> None:
    """Its last event and its reason to finish must both have come, for every choice."""
    stream = EventStream()
    for line in lines:
        stream.feed(line)
    assert stream.outcome is expected


def test_tokens_are_those_that_the_stream_reports() -> None:
    """The last count stands; without any there is none."""
    stream = EventStream()
    stream.feed(choice())
    assert stream.counts() == {"num_events": 1, "answer_tokens": None, "finish_reason": None}
    for tokens in (5, 9):
        stream.feed(data({"choices": [], "usage": {"completion_tokens": tokens}}))
    stream.feed(choice("length"))
    assert stream.counts() == {"num_events": 4, "answer_tokens": 9, "finish_reason": "length"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "empty"),
        (b"no healthy upstream", "text"),
        (b'{"error": {"message": "m", "type": "t", "param": null, "code": 429}}', "openai"),
        (b'{"type": "error", "error": {"type": "t", "message": "m"}}', "anthropic"),
        (b'{"detail": "m"}', "other JSON"),
        (b'{"error": "m"}', "other JSON"),
        (b"[1]", "other JSON"),
    ],
)
def test_an_errors_shape_is_that_of_its_api(body: bytes, expected: str) -> None:
    """Or of none."""
    assert error_shape(body) == expected

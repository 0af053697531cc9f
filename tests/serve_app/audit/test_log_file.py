"""Logs of any kind of file, line by line."""

import contextlib
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audit import log_file
from serve_app.audit.log_file import Flaw, LogLine, LogPlace, read_lines
from serve_app.audit.logged_request import FlawError, read_request

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "two frames": lambda content: b"".join(map(zstandard.ZstdCompressor().compress, (content[:7], content[7:]))),
}


def line(content: object, flaw: Flaw | None = None) -> LogLine:
    """The first one of a file."""
    written = content if isinstance(content, bytes) else json.dumps(content).encode()
    return LogLine(LogPlace(Path("log"), 1, 0), written, flaw)


@pytest.mark.parametrize("packing", PACKERS)
def test_all_lines_are_read_whatever_the_packing(tmp_path: Path, packing: str) -> None:
    """By content, not by name; empty lines are passed over, and each knows its number and offset."""
    path = tmp_path / "log"
    path.write_bytes(PACKERS[packing](b"first\n\n  \nsecond\nthird"))
    num_read: list[int] = []
    found = list(read_lines(path, num_read.append))
    assert [(each.content.strip(), each.place.line, each.place.offset) for each in found] == [
        (b"first", 1, 0),
        (b"second", 4, 10),
        (b"third", 5, 17),
    ]
    assert sum(num_read) >= path.stat().st_size


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    """Nor has one that is empty when it is unpacked."""
    path = tmp_path / "log"
    for content in (b"", gzip.compress(b"")):
        path.write_bytes(content)
        assert list(read_lines(path)) == []


def test_a_line_that_is_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and the lines after it are read."""
    monkeypatch.setattr(log_file, "MAX_LINE_BYTES", 10)
    path = tmp_path / "log"
    path.write_bytes(b"short\n" + b"x" * 3_000_000 + b"\nshort too\n" + b"y" * 11)
    found = list(read_lines(path))
    assert [each.flaw for each in found] == [None, Flaw.TOO_LONG, None, Flaw.TOO_LONG]
    assert found[2].place == LogPlace(path, 3, 6 + 3_000_001)


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Cut off, or something else after the magic."""
    path = tmp_path / "log"
    whole = gzip.compress(b"".join(b"line %d\n" % number for number in range(100_000)))
    for content in (whole[: len(whole) // 2], b"\x1f\x8bnot gzip at all", b"\x28\xb5\x2f\xfdnot zstd"):
        path.write_bytes(content)
        assert list(read_lines(path))[-1].flaw is Flaw.DAMAGED


@given(st.binary(max_size=200))
def test_no_content_is_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever is in a file, each line is a request or has a flaw."""
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    for each in read_lines(path):
        with contextlib.suppress(FlawError):
            assert read_request(each).body


@pytest.mark.parametrize(
    "fields",
    [
        BODY,
        {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": BODY},
        {"request": BODY, "response": {}},
        {"body": json.dumps(BODY)},
        {"body": {"x": 1}, "request": BODY},
    ],
)
def test_a_request_is_found_in_its_wrapping(fields: dict[str, object]) -> None:
    """As OpenAI's batch files, gateways and loggers have it."""
    assert read_request(line(fields)).body == BODY


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        (b"{", Flaw.NOT_JSON),
        (b"[1, 2]", Flaw.NOT_JSON),
        (b"\xff\xfe\x00", Flaw.NOT_TEXT),
        ({"messages": []}, Flaw.NO_PROMPT),
        ({"messages": "Hello"}, Flaw.NO_PROMPT),
        ({"messages": [1]}, Flaw.NO_PROMPT),
        ({"prompt": ""}, Flaw.NO_PROMPT),
        ({"level": "info"}, Flaw.NO_PROMPT),
        ({"body": "no JSON"}, Flaw.NO_PROMPT),
    ],
)
def test_what_is_no_request_is_named(content: object, flaw: Flaw) -> None:
    """By its flaw."""
    with pytest.raises(FlawError) as raised:
        read_request(line(content))
    assert raised.value.flaw is flaw


def test_a_session_is_the_bodys_or_the_logs() -> None:
    """In this order."""
    assert read_request(line({"session_id": "log's", "body": BODY})).session_id == "log's"
    assert read_request(line({"session_id": "log's", "body": {**BODY, "prompt_cache_key": "own"}})).session_id == "own"
    assert read_request(line(BODY)).session_id == ""

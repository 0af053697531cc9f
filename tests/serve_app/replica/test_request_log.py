"""A line for each request."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from router import ReplicaId, RequestId
from serve_app.messages.receipts import Finished, Prefilled
from serve_app.messages.response_headers import UNROUTED
from serve_app.messages.routing_note import RoutingNote
from serve_app.replica.request_log import MESSAGE, RequestLog

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
NOTE = RoutingNote(RequestId("a"), ReplicaId("r0"), "prefix_affinity", "prefix", 100, 64)


class Route:
    """Which has handled a request."""

    path = "/v1/responses/{response_id}"


class Lines(list[Mapping[str, object]]):
    """What was written, and by what."""

    def __init__(self) -> None:
        self.now_s = 10.0
        self.log = RequestLog(self.append, clock=lambda: self.now_s)


def scope(**headers: str) -> dict[str, Any]:
    """The ASGI scope of a request to some route, with headers whose names have dashes."""
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": "/v1/responses/a-secret", "headers": named, "route": Route()}


@pytest.fixture
def lines() -> Lines:
    """The lines, none yet."""
    return Lines()


def test_two_requests_may_have_one_note(lines: Lines) -> None:
    """Each has its line."""
    for served in (lines.log.begin(NOTE), lines.log.begin(NOTE)):
        lines.log.end(served, scope(), status=200)
    assert [line["warmroute_request_id"] for line in lines] == ["a", "a"]


def test_an_id_of_any_bytes_is_written(lines: Lines) -> None:
    """As JSON can."""
    request = scope() | {"headers": [(b"x-request-id", b"\xff\x00"), (b"traceparent", b"\xff")]}
    lines.log.end(lines.log.begin(None), request, status=200)
    assert orjson.loads(orjson.dumps(dict(lines[0])))["request_id"] == "\xff\x00"


@pytest.mark.parametrize(
    ("value", "trace_id"),
    [
        (TRACEPARENT, TRACE_ID),
        (f"{TRACEPARENT}\n", None),
        (TRACEPARENT.upper(), None),
        ("a client's words", None),
    ],
)
def test_only_ids_are_taken_from_a_client(lines: Lines, value: str, trace_id: str | None) -> None:
    """Nothing that could be a prompt or a key."""
    headers = {"traceparent": value, "authorization": "Bearer a-secret", "x_request_id": "of Serve"}
    lines.log.end(lines.log.begin(None), scope(**headers), status=200)
    (line,) = lines
    assert line.get("trace_id") == trace_id
    assert line["request_id"] == "of Serve"
    assert "secret" not in str(line)
    assert "client" not in str(line)


def test_a_line_joins_what_was_decided_with_what_came_of_it(lines: Lines) -> None:
    """Of two choices the tokens of both, and the first token's time."""
    served = lines.log.begin(NOTE)
    lines.log.on_receipt(Prefilled(NOTE.request_id, 100, 32, None, 0.5))
    lines.log.on_receipt(Prefilled(NOTE.request_id, 100, 96))
    lines.log.on_receipt(Prefilled(RequestId("another"), 5, 0, None, 0.1))
    lines.log.on_receipt(Finished(NOTE.request_id, 48))
    lines.log.on_receipt(Finished(RequestId("another"), 5))
    lines.now_s += 2.0
    lines.log.end(served, scope(traceparent=TRACEPARENT, x_request_id="b"), status=200)
    assert lines == [
        {
            "message": MESSAGE,
            "request_id": "b",
            "method": "POST",
            "route": Route.path,
            "warmroute_request_id": "a",
            "trace_id": TRACE_ID,
            "policy": "prefix_affinity",
            "reason": "prefix",
            "routed_to": "r0",
            "status": 200,
            "routed_prompt_tokens": 100,
            "believed_cached_tokens": 64,
            "prompt_tokens": 200,
            "cached_tokens": 128,
            "ttft_s": 0.5,
            "answer_tokens": 48,
            "duration_s": 2.0,
        }
    ]


def test_what_is_not_known_is_left_out(lines: Lines) -> None:
    """A client that left before anything was sent, to no route, with a prompt that has no key."""
    note = RoutingNote(RequestId("a"), ReplicaId("r0"), "prefix_affinity", "no_prompt", None, None)
    lines.log.end(lines.log.begin(note), scope() | {"route": None}, status=None)
    (line,) = lines
    absent = {"request_id", "trace_id", "route", "status", "routed_prompt_tokens", "believed_cached_tokens"}
    absent |= {"ttft_s", "answer_tokens"}
    assert not absent & set(line)


def test_what_no_router_sent_has_a_line_too(lines: Lines) -> None:
    """As Serve writes none then."""
    lines.log.end(lines.log.begin(None), scope(), status=404)
    (line,) = lines
    assert (line["method"], line["status"], line["reason"]) == ("POST", 404, UNROUTED)
    assert "prompt_tokens" not in line

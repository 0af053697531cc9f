"""A line for each request."""

import logging

import pytest

from router import ReplicaId, RequestId
from serve_app.receipts import Finished, Prefilled
from serve_app.replica_headers import UNROUTED
from serve_app.request_log import MESSAGE, RequestLog, trace_id_of
from serve_app.routing_note import RoutingNote

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
NOTE = RoutingNote(RequestId("a"), ReplicaId("r0"), "prefix_affinity", "prefix", 100, 64)


@pytest.mark.parametrize(
    ("value", "trace_id"),
    [
        (f"00-{TRACE_ID}-b7ad6b7169203331-01", TRACE_ID),
        (f"00-{TRACE_ID}-b7ad6b7169203331-01\n", None),
        (f"00-{TRACE_ID.upper()}-b7ad6b7169203331-01", None),
        ("a client's words", None),
    ],
)
def test_only_a_trace_id_is_taken_from_a_client(value: str, trace_id: str | None) -> None:
    """Nothing that could be a prompt or a key."""
    assert trace_id_of([(b"accept", b"*/*"), (b"traceparent", value.encode())]) == trace_id
    assert trace_id_of([]) is None


def test_a_line_joins_what_was_decided_with_what_came_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """Of two choices the tokens of both, and the first token's time."""
    now_s = 10.0
    log = RequestLog(clock=lambda: now_s)
    served = log.begin(NOTE)
    log.on_receipt(Prefilled(NOTE.request_id, 100, 32, None, 0.5))
    log.on_receipt(Prefilled(NOTE.request_id, 100, 96))
    log.on_receipt(Prefilled(RequestId("another"), 5, 0, None, 0.1))
    log.on_receipt(Finished(NOTE.request_id))
    now_s = 12.0
    with caplog.at_level(logging.INFO, "ray.serve"):
        log.end(served, method="POST", status=200, trace_id=TRACE_ID)
    (record,) = caplog.records
    assert record.message == MESSAGE
    fields = {
        "method": "POST",
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
        "duration_s": 2.0,
    }
    assert {name: getattr(record, name) for name in fields} == fields


def test_what_is_not_known_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A client that left before anything was sent, with a prompt that has no key."""
    note = RoutingNote(RequestId("a"), ReplicaId("r0"), "prefix_affinity", "no_prompt", None, None)
    log = RequestLog(clock=lambda: 0.0)
    served = log.begin(note)
    with caplog.at_level(logging.INFO, "ray.serve"):
        log.end(served, method="POST", status=None, trace_id=None)
    (record,) = caplog.records
    absent = ("trace_id", "status", "routed_prompt_tokens", "believed_cached_tokens", "ttft_s")
    assert not any(hasattr(record, name) for name in absent)


def test_what_no_router_sent_has_a_line_too(caplog: pytest.LogCaptureFixture) -> None:
    """As Serve writes none then."""
    log = RequestLog(clock=lambda: 0.0)
    served = log.begin(None)
    with caplog.at_level(logging.INFO, "ray.serve"):
        log.end(served, method="GET", status=404, trace_id=None)
    (record,) = caplog.records
    assert (record.method, record.status, record.reason) == ("GET", 404, UNROUTED)
    assert not hasattr(record, "prompt_tokens")

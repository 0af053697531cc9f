"""A log line for each request when it is over, in place of Serve's: what was decided for it, and what became of it.

Fields only, which Serve writes as JSON (`replicas.log_requests`), with the route and its own request id. Of the
client's words there is nothing in it but the trace id, which is hexadecimal.
"""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from router import RequestId
from serve_app.receipts import Prefilled, Receipt
from serve_app.replica_headers import UNROUTED
from serve_app.routing_note import RoutingNote

logger = logging.getLogger("ray.serve")

MESSAGE = "request"
TO_FILE_ONLY = {"log_to_stderr": False}
"""Serve's word for it. To stderr it writes no fields, so that nothing would be left of a line but the message."""
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, whose second field is the trace's id."""


@dataclass(slots=True)
class Served:
    """A request that is under way."""

    note: RoutingNote | None
    """None if no router sent it."""
    since_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    ttft_s: float | None = None


class RequestLog:
    """Knows the requests that are under way.

    Args:
        clock: seconds, monotonic.

    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._request_to_served: dict[RequestId, Served] = {}

    def begin(self, note: RoutingNote | None) -> Served:
        """A request is here."""
        served = Served(note, self._clock())
        if note is not None:
            self._request_to_served[note.request_id] = served
        return served

    def on_receipt(self, receipt: Receipt) -> None:
        """What the routers are told."""
        if not isinstance(receipt, Prefilled):
            return
        served = self._request_to_served.get(receipt.request_id)
        if served is not None:
            served.prompt_tokens += receipt.prompt_tokens
            served.cached_tokens += receipt.cached_tokens
            served.ttft_s = receipt.ttft_s if served.ttft_s is None else served.ttft_s

    def end(self, served: Served, *, method: str, status: int | None, trace_id: str | None) -> None:
        """It is over; without a status, before anything was sent."""
        if served.note is not None:
            del self._request_to_served[served.note.request_id]
        fields = {
            "method": method,
            "status": status,
            "duration_s": self._clock() - served.since_s,
            "trace_id": trace_id,
            **_routed_fields(served),
        }
        known = {name: value for name, value in fields.items() if value is not None}
        logger.info(MESSAGE, extra={**known, **TO_FILE_ONLY})


def _routed_fields(served: Served) -> dict[str, object]:
    note = served.note
    if note is None:
        return {"reason": UNROUTED}
    return {
        "warmroute_request_id": note.request_id,
        "policy": note.policy,
        "reason": note.reason,
        "routed_to": note.replica_id,
        "routed_prompt_tokens": note.prompt_tokens,
        "believed_cached_tokens": note.believed_cached_tokens,
        "prompt_tokens": served.prompt_tokens,
        "cached_tokens": served.cached_tokens,
        "ttft_s": served.ttft_s,
    }


def trace_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """From an ASGI request's headers; None without a `traceparent`, or with one that is none."""
    value = next((value for name, value in headers if name == b"traceparent"), b"")
    match = TRACEPARENT.fullmatch(value)
    return None if match is None else match[1].decode()

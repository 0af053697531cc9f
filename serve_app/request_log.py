"""A log line for each routed request when it is over: what was decided for it, and what became of it.

Fields only, which Serve writes as JSON (`replicas.log_requests`). Of the client's words there is nothing in it but the
trace id, which is hexadecimal.
"""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from router import RequestId
from serve_app.receipts import Prefilled, Receipt
from serve_app.routing_note import RoutingNote

logger = logging.getLogger("ray.serve")

MESSAGE = "request"
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, whose second field is the trace's id."""


@dataclass(slots=True)
class _Served:
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
        self._request_to_served: dict[RequestId, _Served] = {}

    def begin(self, note: RoutingNote) -> None:
        """A routed request is here."""
        self._request_to_served[note.request_id] = _Served(self._clock())

    def on_receipt(self, receipt: Receipt) -> None:
        """What the routers are told."""
        if not isinstance(receipt, Prefilled):
            return
        served = self._request_to_served.get(receipt.request_id)
        if served is not None:
            served.prompt_tokens += receipt.prompt_tokens
            served.cached_tokens += receipt.cached_tokens
            served.ttft_s = receipt.ttft_s if served.ttft_s is None else served.ttft_s

    def end(self, note: RoutingNote, *, status: int | None, trace_id: str | None) -> None:
        """It is over; without a status, before anything was sent."""
        served = self._request_to_served.pop(note.request_id)
        fields = {
            "warmroute_request_id": note.request_id,
            "trace_id": trace_id,
            "policy": note.policy,
            "reason": note.reason,
            "routed_to": note.replica_id,
            "status": status,
            "routed_prompt_tokens": note.prompt_tokens,
            "believed_cached_tokens": note.believed_cached_tokens,
            "prompt_tokens": served.prompt_tokens,
            "cached_tokens": served.cached_tokens,
            "ttft_s": served.ttft_s,
            "duration_s": self._clock() - served.since_s,
        }
        logger.info(MESSAGE, extra={name: value for name, value in fields.items() if value is not None})


def trace_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """From an ASGI request's headers; None without a `traceparent`, or with one that is none."""
    value = next((value for name, value in headers if name == b"traceparent"), b"")
    match = TRACEPARENT.fullmatch(value)
    return None if match is None else match[1].decode()

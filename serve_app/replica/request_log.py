"""A log line for each request when it is over, in place of Serve's: what was decided for it, and what became of it.

Fields only, written as JSON (`replicas.log_requests`). Of the client's words there is nothing in it but the ids of its
trace, which is hexadecimal, and of its request, which Serve's own lines have as well.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.types import Scope

from router import RequestId
from serve_app.messages.receipts import Finished, Prefilled, Receipt
from serve_app.messages.response_headers import UNROUTED
from serve_app.messages.routing_note import RoutingNote

MESSAGE = "request"
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, whose second field is the trace's id."""


@dataclass(slots=True)
class Served:
    """A running request."""

    note: RoutingNote | None
    """The router's note; None if no router sent the request."""
    since_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    ttft_s: float | None = None
    answer_tokens: int | None = None


class RequestLog:
    """Knows the running requests.

    Args:
        write: takes the fields of a line that are known; must not wait.
        clock: seconds, monotonic.

    """

    def __init__(self, write: Callable[[Mapping[str, object]], None], *, clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._request_to_served: dict[RequestId, Served] = {}

    def begin(self, note: RoutingNote | None) -> Served:
        """Note a request that has arrived."""
        served = Served(note, self._clock())
        if note is not None:
            self._request_to_served[note.request_id] = served
        return served

    def on_receipt(self, receipt: Receipt) -> None:
        """Note what the routers are told."""
        if not isinstance(receipt, Prefilled | Finished):
            return
        served = self._request_to_served.get(receipt.request_id)
        if served is None:
            return
        if isinstance(receipt, Finished):
            served.answer_tokens = receipt.answer_tokens
        else:
            served.prompt_tokens += receipt.prompt_tokens
            served.cached_tokens += receipt.cached_tokens
            served.ttft_s = receipt.ttft_s if served.ttft_s is None else served.ttft_s

    def end(self, served: Served, scope: Scope, *, status: int | None) -> None:
        """Write the line of a request that is over; without a status, it ended before anything was sent."""
        if served.note is not None:
            self._request_to_served.pop(served.note.request_id, None)  # two requests may have one note
        fields = {
            "message": MESSAGE,
            **_asked_fields(scope),
            "status": status,
            "duration_s": self._clock() - served.since_s,
            **_routed_fields(served),
        }
        self._write({name: value for name, value in fields.items() if value is not None})


def _asked_fields(scope: Scope) -> dict[str, object]:
    """Fields of an ASGI request that an application has handled, which has noted its route's pattern there."""
    header_to_value = dict(scope["headers"])
    request_id = header_to_value.get(b"x-request-id")  # Serve has added it where a client sends none
    return {
        "request_id": None if request_id is None else request_id.decode("latin-1"),
        "trace_id": _trace_id(header_to_value.get(b"traceparent", b"")),
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", None),
    }


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
        "answer_tokens": served.answer_tokens,
    }


def _trace_id(traceparent: bytes) -> str | None:
    """The trace's id; None where this is no W3C trace context."""
    match = TRACEPARENT.fullmatch(traceparent)
    return None if match is None else match[1].decode()

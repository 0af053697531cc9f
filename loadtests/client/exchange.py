"""One request to the server and what became of it. Of texts nothing is kept: only counts, times and ids."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from loadtests.client.answers import EventStream, Outcome, error_shape
from serve_app.messages.response_headers import REASON_HEADER, REPLICA_HEADER, REQUEST_ID_HEADER, ROUTED_TO_HEADER

TIMEOUT_S = 600.0
JSON_HEADERS = (("content-type", "application/json"),)
EVENT_STREAM = "text/event-stream"


class Close(StrEnum):
    """When a client that does not want the whole answer closes its connection."""

    BEFORE_FIRST_CHUNK = "before the first chunk"
    AFTER_FIRST_CHUNK = "after the first chunk"


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """What is sent, and how long its client listens."""

    request_id: str
    """Of our own, for the records; the server does not see it."""
    kind: str
    path: str
    content: bytes
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS
    close: Close | None = None
    patience_s: float | None = None
    """The client closes the connection after so long, whatever it got."""
    read_timeout_s: float | None = None
    """The client times out after so long without a byte."""


@dataclass(slots=True)
class Exchange:
    """The record of a request; filled while it is under way."""

    request_id: str
    kind: str
    started_s: float
    outcome: Outcome | None = None
    """None while it is under way."""
    status: int | None = None
    replica: str | None = None
    routed_to: str | None = None
    reason: str | None = None
    server_request_id: str | None = None
    retry_after: str | None = None
    error_shape: str | None = None
    first_byte_s: float | None = None
    """From sending to the first byte of the answer's body."""
    duration_s: float | None = None
    stream: EventStream | None = field(default=None, repr=False)

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer came."""
        return self.outcome is Outcome.COMPLETE

    @property
    def ended_s(self) -> float:
        """On the clock of `started_s`."""
        assert self.duration_s is not None, f"{self.request_id} is under way"
        return self.started_s + self.duration_s

    @property
    def outcome_text(self) -> str:
        """For tables: the outcome, and the status of an answer that is not a 200."""
        if self.outcome is None:
            return "under way"
        return f"{self.status}" if self.outcome is Outcome.REFUSED else self.outcome.value

    def as_json(self) -> dict[str, object]:
        """For the record file; times in seconds."""
        names = [name for name in self.__slots__ if name != "stream"]
        counts = {} if self.stream is None else self.stream.counts()
        return {name: getattr(self, name) for name in names} | counts


async def exchange(
    client: httpx.AsyncClient,
    request: ClientRequest,
    *,
    record: Exchange | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Exchange:
    """Send a request and follow its answer; never raises for what the server or the network does.

    Args:
        client: with the server's base URL.
        request: what to send.
        record: filled as things happen, for a caller who wants to look on; a new one by default.
        clock: seconds, monotonic.

    """
    record = record or Exchange(request.request_id, request.kind, clock())
    try:
        async with asyncio.timeout(request.patience_s):
            record.outcome = await _converse(client, request, record, clock)
    except TimeoutError:  # our own patience; httpx has its own class of timeouts
        record.outcome = Outcome.CLOSED
    except httpx.TimeoutException:
        record.outcome = Outcome.TIMED_OUT
    except httpx.TransportError:
        record.outcome = Outcome.NO_ANSWER if record.status is None else Outcome.CUT
    record.duration_s = clock() - record.started_s
    return record


async def _converse(
    client: httpx.AsyncClient, request: ClientRequest, record: Exchange, clock: Callable[[], float]
) -> Outcome:
    timeout = httpx.Timeout(TIMEOUT_S, read=request.read_timeout_s or TIMEOUT_S)
    async with client.stream(
        "POST", request.path, content=request.content, headers=request.headers, timeout=timeout
    ) as response:
        _read_headers(record, response)
        if response.is_error:
            record.error_shape = error_shape(await response.aread())
            return Outcome.REFUSED
        if request.close is Close.BEFORE_FIRST_CHUNK:
            return Outcome.CLOSED
        if not response.headers.get("content-type", "").startswith(EVENT_STREAM):
            async for _ in response.aiter_bytes():
                _note_first_byte(record, clock)
            return Outcome.COMPLETE
        record.stream = EventStream()
        async for line in response.aiter_lines():
            _note_first_byte(record, clock)
            record.stream.feed(line)
            if request.close is Close.AFTER_FIRST_CHUNK:
                return Outcome.CLOSED
        return record.stream.outcome


def _read_headers(record: Exchange, response: httpx.Response) -> None:
    record.status = response.status_code
    record.replica = response.headers.get(REPLICA_HEADER)
    record.routed_to = response.headers.get(ROUTED_TO_HEADER)
    record.reason = response.headers.get(REASON_HEADER)
    record.server_request_id = response.headers.get(REQUEST_ID_HEADER)
    record.retry_after = response.headers.get("retry-after")


def _note_first_byte(record: Exchange, clock: Callable[[], float]) -> None:
    if record.first_byte_s is None:
        record.first_byte_s = clock() - record.started_s

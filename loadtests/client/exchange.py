"""One request to the server and what became of it. No text is kept: only counts, times and ids."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum

import httpx

from loadtests.client.answers import EventStream, Outcome, error_shape
from serve_app.messages.response_headers import (
    ENGINE_HEADER,
    REASON_HEADER,
    REPLICA_HEADER,
    REQUEST_ID_HEADER,
    ROUTED_TO_HEADER,
)

TIMEOUT_S = 600.0
CHAT = "/v1/chat/completions"
SERVER_ERROR = 500
"""Statuses from here on say that the server failed."""
JSON_HEADERS = (("content-type", "application/json"),)
EVENT_STREAM = "text/event-stream"
EVENT = "data: {"
TOO_MANY_REQUESTS = 429
WARM_SHARE = 0.5
"""Share of a prompt's tokens from which on it counts as cached."""


class Close(StrEnum):
    """When a client that does not want the whole answer closes its connection."""

    BEFORE_FIRST_CHUNK = "before the first chunk"
    AFTER_FIRST_CHUNK = "after the first chunk"


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """What is sent, and how long its client listens."""

    request_id: str
    """The client's own name for the request, in its records; the server does not see it."""
    kind: str
    path: str
    content: bytes
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS
    close: Close | None = None
    patience_s: float | None = None
    """Seconds after which the client closes the connection, whatever it got."""
    read_timeout_s: float | None = None
    """Seconds without a byte after which the client times out."""


@dataclass(slots=True)
class Exchange:
    """The record of a request. Its sender, with whatever library, fills the record while the request is under way."""

    request_id: str
    kind: str
    started_s: float
    """When the request was sent, on the sender's clock; times below count from then, in seconds."""
    outcome: Outcome | None = None
    """None while it is under way."""
    status: int | None = None
    replica: str | None = None
    routed_to: str | None = None
    reason: str | None = None
    server_request_id: str | None = None
    retry_after: str | None = None
    engine: str | None = None
    """The engine's name in the server's header, which real engines do not have."""
    error_shape: str | None = None
    first_byte_s: float | None = None
    """Time to the first byte of the answer's body."""
    last_token_s: float | None = None
    """Time to the last event of the stream that is not the usage."""
    duration_s: float | None = None
    num_bytes: int = 0
    """Size of the answer's body, as far as it came."""
    stream: EventStream | None = field(default=None, repr=False)

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer came."""
        return self.outcome is Outcome.COMPLETE

    @property
    def is_shed(self) -> bool:
        """Whether the server declined the request for its load."""
        return self.status == TOO_MANY_REQUESTS

    @property
    def is_warm(self) -> bool:
        """Whether at least half of the prompt's tokens came from a cache, by the usage that the server reported."""
        return self.cached_tokens >= WARM_SHARE * self.prompt_tokens

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token; None without a whole answer."""
        return self.first_byte_s if self.is_complete else None

    @property
    def inter_token_s(self) -> float | None:
        """Time from the first token to the last, over the tokens that came after the first."""
        if self.first_byte_s is None or self.last_token_s is None or self.answer_tokens <= 1:
            return None
        return (self.last_token_s - self.first_byte_s) / (self.answer_tokens - 1)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, by the server's usage; 0 without one, as for the next two."""
        return self.stream.prompt_tokens if self.stream else 0

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were cached."""
        return self.stream.cached_tokens if self.stream else 0

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer."""
        return (self.stream.answer_tokens or 0) if self.stream else 0

    @property
    def retry_after_s(self) -> float | None:
        """Seconds for which the server asks to wait; None where it does not, or names a date."""
        with contextlib.suppress(ValueError):
            return float(self.retry_after or "")
        return None

    @property
    def ended_s(self) -> float:
        """When it was over, on the clock of `started_s`."""
        assert self.duration_s is not None, f"{self.request_id} is under way"
        return self.started_s + self.duration_s

    @property
    def outcome_text(self) -> str:
        """The outcome for tables, or the status of an answer that is not a 200."""
        if self.outcome is None:
            return "under way"
        return f"{self.status}" if self.outcome is Outcome.REFUSED else self.outcome.value

    def read_headers(self, status: int, header: Callable[[str], str | None]) -> None:
        """The answer's status and headers have come."""
        self.status = status
        self.replica = header(REPLICA_HEADER)
        self.routed_to = header(ROUTED_TO_HEADER)
        self.reason = header(REASON_HEADER)
        self.server_request_id = header(REQUEST_ID_HEADER)
        self.engine = header(ENGINE_HEADER)
        self.retry_after = header("retry-after")

    def read_bytes(self, clock: Callable[[], float]) -> None:
        """A part of the body has come."""
        if self.first_byte_s is None:
            self.first_byte_s = clock() - self.started_s

    def read_line(self, line: str, clock: Callable[[], float]) -> None:
        """A line of a stream of events has come."""
        self.stream = stream = self.stream or EventStream()
        if not line.startswith(EVENT):
            self.read_bytes(clock)
            stream.feed(line)
            return
        now_s, prompt_tokens = clock() - self.started_s, stream.prompt_tokens
        self.first_byte_s = now_s if self.first_byte_s is None else self.first_byte_s
        stream.feed(line)
        if stream.prompt_tokens == prompt_tokens:  # the last event only tells the usage
            self.last_token_s = now_s

    def end(self, outcome: Outcome, clock: Callable[[], float]) -> None:
        """The request is over."""
        self.outcome = outcome
        self.duration_s = clock() - self.started_s

    @property
    def broken(self) -> Outcome:
        """The outcome when the connection fails now."""
        return Outcome.NO_ANSWER if self.status is None else Outcome.CUT

    def as_json(self) -> dict[str, object]:
        """The record without the stream's content, for a file; times in seconds."""
        names = [item.name for item in fields(Exchange) if item.name != "stream"]
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
            outcome = await _converse(client, request, record, clock)
    except TimeoutError:  # our own patience; httpx has its own class of timeouts
        outcome = Outcome.CLOSED
    except httpx.TimeoutException:
        outcome = Outcome.TIMED_OUT
    except httpx.TransportError:
        outcome = record.broken
    record.end(outcome, clock)
    return record


async def _converse(
    client: httpx.AsyncClient, request: ClientRequest, record: Exchange, clock: Callable[[], float]
) -> Outcome:
    timeout = httpx.Timeout(TIMEOUT_S, read=request.read_timeout_s or TIMEOUT_S)
    async with client.stream(
        "POST", request.path, content=request.content, headers=request.headers, timeout=timeout
    ) as response:
        record.read_headers(response.status_code, response.headers.get)
        try:
            return await _follow(response, request, record, clock)
        finally:
            record.num_bytes = response.num_bytes_downloaded


async def _follow(
    response: httpx.Response, request: ClientRequest, record: Exchange, clock: Callable[[], float]
) -> Outcome:
    if response.is_error:
        record.error_shape = error_shape(await response.aread())
        return Outcome.REFUSED
    if request.close is Close.BEFORE_FIRST_CHUNK:
        return Outcome.CLOSED
    if not response.headers.get("content-type", "").startswith(EVENT_STREAM):
        async for _ in response.aiter_bytes():
            record.read_bytes(clock)
        return Outcome.COMPLETE
    record.stream = EventStream()
    async for line in response.aiter_lines():
        record.read_line(line, clock)
        if request.close is Close.AFTER_FIRST_CHUNK:
            return Outcome.CLOSED
    return record.stream.outcome

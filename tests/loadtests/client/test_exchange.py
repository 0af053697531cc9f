"""What a client makes of whatever the server and the network do."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from loadtests.client.answers import Outcome
from loadtests.client.exchange import ClientRequest, Close, Exchange, exchange
from serve_app.messages.response_headers import REASON_HEADER, REPLICA_HEADER, REQUEST_ID_HEADER, ROUTED_TO_HEADER

Handler = Callable[[httpx.Request], httpx.Response]

EXPLAINED = {REPLICA_HEADER: "app#LLM#one", REASON_HEADER: "ring", REQUEST_ID_HEADER: "ours"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8", **EXPLAINED}
WHOLE = (b'data: {"choices": [{"index": 0, "finish_reason": "length"}]}\n\n', b"data: [DONE]\n\n")


class Chunks(httpx.AsyncByteStream):
    """A body that comes piece by piece, and may then fail; notes whether its reader closed it."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self._chunks = chunks
        self._error = error
        self.num_read = 0
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.num_read += 1
            yield chunk
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        """The reader has left."""
        self.is_closed = True


async def send(handler: Handler, **options: object) -> Exchange:
    """One request to a server that is this function; the clock ticks once a look."""
    ticks = itertools.count(100.0)
    request = ClientRequest("1", "chat", "/v1/chat/completions", b"{}", **options)  # type: ignore[arg-type]
    async with httpx.AsyncClient(base_url="http://server", transport=httpx.MockTransport(handler)) as client:
        return await exchange(client, request, clock=lambda: next(ticks))


def answer(*chunks: bytes, error: Exception | None = None, **headers: str) -> Handler:
    """A server that streams this."""
    return lambda _: httpx.Response(200, headers=EVENTS | headers, stream=Chunks(*chunks, error=error))


async def test_a_whole_stream_is_complete_and_explained() -> None:
    """With ids, times and counts, and without a word of the answer."""
    record = await send(answer(*WHOLE, **{ROUTED_TO_HEADER: "app#LLM#two"}))
    assert record.is_complete
    assert (record.replica, record.routed_to, record.reason) == ("app#LLM#one", "app#LLM#two", "ring")
    assert (record.started_s, record.first_byte_s, record.duration_s, record.ended_s) == (100, 1, 2, 102)
    assert record.as_json() == {
        "request_id": "1",
        "kind": "chat",
        "started_s": 100,
        "outcome": "complete",
        "status": 200,
        "replica": "app#LLM#one",
        "routed_to": "app#LLM#two",
        "reason": "ring",
        "server_request_id": "ours",
        "retry_after": None,
        "engine": None,
        "error_shape": None,
        "first_byte_s": 1,
        "last_token_s": 1,
        "duration_s": 2,
        "num_bytes": 76,
        "num_events": 1,
        "answer_tokens": None,
        "finish_reason": "length",
    }


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (answer(WHOLE[0]), Outcome.CUT),
        (answer(WHOLE[0], error=httpx.ReadError("reset")), Outcome.CUT),
        (answer(WHOLE[0], error=httpx.RemoteProtocolError("incomplete chunked read")), Outcome.CUT),
        (answer(b'data: {"error": {"message": "died"}}\n\n', WHOLE[1]), Outcome.ERROR_EVENT),
        (answer(WHOLE[0], error=httpx.ReadTimeout("slow")), Outcome.TIMED_OUT),
        (lambda _: httpx.Response(200, headers=EXPLAINED, json={"choices": []}), Outcome.COMPLETE),
    ],
)
async def test_what_began_well_may_end_badly(handler: Handler, expected: Outcome) -> None:
    """The status is a good one in every case."""
    record = await send(handler)
    assert (record.status, record.outcome) == (200, expected)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError("refused"), Outcome.NO_ANSWER),
        (httpx.RemoteProtocolError("server disconnected"), Outcome.NO_ANSWER),
        (httpx.ConnectTimeout("slow"), Outcome.TIMED_OUT),
    ],
)
async def test_there_may_be_no_answer_at_all(error: Exception, expected: Outcome) -> None:
    """Then there is no status either, and the time still counts."""

    def handler(_: httpx.Request) -> httpx.Response:
        raise error

    record = await send(handler)
    assert (record.status, record.outcome, record.duration_s) == (None, expected, 1)


@pytest.mark.parametrize("close", [None, Close.BEFORE_FIRST_CHUNK, Close.AFTER_FIRST_CHUNK])
async def test_a_refusal_is_one_also_for_a_client_that_leaves(close: Close | None) -> None:
    """With its status, the wait it asks for, and the shape of its body."""
    content = json.dumps({"error": {"message": "busy", "type": "overloaded"}})
    record = await send(
        lambda _: httpx.Response(429, headers={"retry-after": "3"}, content=content.encode()), close=close
    )
    assert (record.outcome, record.outcome_text) == (Outcome.REFUSED, "429")
    assert (record.retry_after, record.error_shape) == ("3", "openai")


@pytest.mark.parametrize(("close", "num_read"), [(Close.BEFORE_FIRST_CHUNK, 0), (Close.AFTER_FIRST_CHUNK, 1)])
async def test_a_client_that_leaves_closes_the_connection(close: Close, num_read: int) -> None:
    """When it said, and not later."""
    body = Chunks(*WHOLE)
    record = await send(lambda _: httpx.Response(200, headers=EVENTS, stream=body), close=close)
    assert record.outcome is Outcome.CLOSED
    assert (body.num_read, body.is_closed) == (num_read, True)


async def test_patience_ends_a_request_that_is_not_answered() -> None:
    """As the client's own doing."""

    async def handler(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    record = await send(handler, patience_s=0.01)  # type: ignore[arg-type]
    assert (record.outcome, record.status) == (Outcome.CLOSED, None)


async def test_the_read_timeout_is_the_requests_own() -> None:
    """What httpx is told."""
    seen: list[dict[str, float]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200)

    await send(handler, read_timeout_s=0.5)
    assert (seen[0]["read"], seen[0]["connect"]) == (0.5, 600)

"""Requests that a replica turns away, in each API's words."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router import ReplicaId, RequestId
from serve_app.messages.receipts import Finished, Receipt
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.replica.admission import Admission
from serve_app.replica.explain import ExplainAndReport
from serve_app.replica.running_requests import RunningRequests, current_request_id
from serve_app.settings.tenant_names import TenantNames

KEY = b"the cluster's"


async def serve(_scope: Scope, _receive: Receive, send: Send) -> None:
    """vLLM's part: an answer."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


def make_running(*, num_waiting: int = 0, waited_s: float = 0.0) -> RunningRequests:
    """So many requests wait; the last one that got its first token had waited so long."""
    times = iter([0.0, waited_s])
    running = RunningRequests(lambda _: None, clock=lambda: next(times, 0.0))
    running.arrived(RequestId("served"))
    running.prefilled(RequestId("served"), prompt_tokens=1, cached_tokens=0)
    for number in range(num_waiting):
        running.arrived(RequestId(str(number)))
    return running


def accounting(app: ASGIApp, running: RunningRequests, *, max_waiting_requests: int) -> ExplainAndReport:
    """A replica that reads routers' notes, and where so many may wait."""
    return ExplainAndReport(
        Admission(app, running=running, max_waiting_requests=max_waiting_requests, max_body_bytes=1000),
        replica_id="here",
        running=running,
        explain_headers="brief",
        tenants=TenantNames([], header="x-tenant"),
        note_key=KEY,
    )


async def post(running: RunningRequests, path: str, method: str = "POST") -> httpx.Response:
    """Send a request to a replica where 2 may wait."""
    app = Admission(serve, running=running, max_waiting_requests=2, max_body_bytes=1000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        return await client.request(method, path)


OPENAI_429 = {
    "error": {
        "message": "No more than 2 sequences may wait here; try again later.",
        "type": "Too Many Requests",
        "param": None,
        "code": 429,
    }
}
ANTHROPIC_429 = {
    "type": "error",
    "error": {"type": "rate_limit_error", "message": "No more than 2 sequences may wait here; try again later."},
}


@pytest.mark.parametrize(
    ("length", "status"), [(b"1000", 200), (b"1001", 413), (b"9" * 5000, 413), (b"0" * 5000, 200), (b"\xb2", 200)]
)
async def test_a_body_of_any_said_length_is_answered(length: bytes, status: int) -> None:
    """However long the number is, and whatever passes for one."""
    statuses = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        statuses.append(message.get("status"))

    app = Admission(serve, running=make_running(), max_waiting_requests=2, max_body_bytes=1000)
    headers = [(b"content-length", length)]
    await app({"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}, receive, send)
    assert statuses[0] == status


async def test_up_to_the_limit_requests_are_served() -> None:
    """The two that wait, the one that asks included."""
    assert (await post(make_running(num_waiting=2), "/v1/chat/completions")).text == "served"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", OPENAI_429),
        ("/v1/completions", OPENAI_429),
        ("/v1/responses", OPENAI_429),
        ("/v1/messages", ANTHROPIC_429),
        ("/prefix/v1/messages", ANTHROPIC_429),
    ],
)
async def test_beyond_it_they_are_told_to_come_back(path: str, body: dict[str, Any]) -> None:
    """When the queue of now will be served: as long as the last one had to wait."""
    response = await post(make_running(num_waiting=3, waited_s=2.5), path)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert orjson.loads(response.content) == body
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("asked", "status"),
    [((2,), 200), ((1, 1), 200), ((1, 2), 429), ((2, 1), 429)],
    ids=["as many as may wait", "two of one", "one more", "one behind two"],
)
async def test_each_sequence_of_a_request_waits(asked: tuple[int, ...], status: int) -> None:
    """The one that asks is the last to have arrived; for as many as may wait, it is served when no other one waits."""
    running = RunningRequests(lambda _: None, clock=lambda: 0.0)
    for number, num_sequences in enumerate(asked):
        running.arrived(RequestId(str(number)), num_sequences=num_sequences)
    assert (await post(running, "/v1/completions")).status_code == status


async def test_the_sequences_of_a_note_are_counted() -> None:
    """From the header to the queue: the second request for two answers is turned away while the first one waits."""
    running = RunningRequests(lambda _: None, clock=lambda: 0.0)
    statuses = []

    async def serve_another(scope: Scope, receive: Receive, send: Send) -> None:
        if not statuses:
            statuses.append(None)
            statuses[0] = (await ask("second")).status_code
        await serve(scope, receive, send)

    replica = accounting(serve_another, running, max_waiting_requests=3)

    async def ask(name: str) -> httpx.Response:
        note = RoutingNote(RequestId(name), ReplicaId("here"), "p", "prefix", 1, 0, num_sequences=2)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=replica), base_url="http://replica") as client:
            return await client.post("/v1/completions", headers={NOTE_HEADER: note.encode(KEY)})

    assert (await ask("first")).status_code == 200
    assert statuses == [429]
    assert running.num_waiting == 0


@pytest.mark.parametrize(("waited_s", "retry_after"), [(0.0, "1"), (1000.0, "60")])
async def test_retry_after_is_a_sensible_time(waited_s: float, retry_after: str) -> None:
    """Never at once, never more than a minute."""
    response = await post(make_running(num_waiting=3, waited_s=waited_s), "/v1/completions")
    assert response.headers["retry-after"] == retry_after


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/metrics"), ("POST", "/tokenize"), ("POST", "/v1/messages/count_tokens")]
)
async def test_what_does_not_ask_the_engine_is_always_served(method: str, path: str) -> None:
    """Also when it is overloaded or dead."""
    running = make_running(num_waiting=3)
    running.engine_died()
    assert (await post(running, path, method)).text == "served"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_with_a_dead_engine_it_sends_the_request_elsewhere(path: str) -> None:
    """503 is what HAProxy tries again at another replica."""
    running = make_running()
    running.engine_died()
    response = await post(running, path)
    assert response.status_code == 503
    assert "engine of this replica died" in response.text


START_TO_TEXT = {
    (True, 500, "application/json"): (503, "engine of this replica died"),
    (False, 500, "application/json"): (500, "vllm's words, to their end"),
    (True, 200, "application/json"): (200, "vllm's words, to their end"),
    (True, 200, "text/event-stream; charset=utf-8"): (503, "engine of this replica died"),
    (False, 200, "text/event-stream; charset=utf-8"): (200, "vllm's words, to their end"),
}


@pytest.mark.parametrize(("dies", "status", "content_type"), START_TO_TEXT)
async def test_an_answer_that_fails_with_the_engine_is_sent_elsewhere(
    *, dies: bool, status: int, content_type: str
) -> None:
    """A fault of the request itself is not, and an answer that succeeded is one. Headers do not begin a stream."""
    running = make_running()

    async def serve_until_death(_scope: Scope, _receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type.encode())]}
        if status == 200:
            await send(start)
        if dies:
            running.engine_died()
        if status != 200:
            await send(start)
        await send({"type": "http.response.body", "body": b"vllm's words", "more_body": True})
        await send({"type": "http.response.body", "body": b", to their end"})

    app = Admission(serve_until_death, running=running, max_waiting_requests=2, max_body_bytes=1000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        response = await client.post("/v1/completions")
    seen, text = START_TO_TEXT[dies, status, content_type]
    assert response.status_code == seen
    assert text in response.text
    assert ("vllm" in response.text) == (seen != 503)


async def test_a_stream_that_has_begun_goes_on_to_its_end() -> None:
    """With vLLM's own words about the engine's death: no other replica can continue it."""
    running = make_running()

    async def die_midway(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        running.engine_died()
        await send({"type": "http.response.body", "body": b"data: error\n\n"})

    app = Admission(die_midway, running=running, max_waiting_requests=2, max_body_bytes=1000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        response = await client.post("/v1/completions")
    assert (response.status_code, response.text) == (200, "data: 1\n\ndata: error\n\n")


async def test_a_request_sent_elsewhere_is_not_over() -> None:
    """Its account goes on there; one that is answered here ends here."""
    receipts = list[Receipt]()
    running = RunningRequests(receipts.append, clock=lambda: 0.0)
    replica = accounting(serve, running, max_waiting_requests=2)
    headers = {NOTE_HEADER: RoutingNote(RequestId("a"), ReplicaId("here"), "p", "prefix", 1, 0).encode(KEY)}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=replica), base_url="http://replica") as client:
        await client.post("/v1/completions", headers=headers)
        assert receipts == [Finished(RequestId("a"))]
        running.engine_died()
        receipts.clear()
        await client.post("/v1/completions", headers=headers)
    assert receipts == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/chat/completions", "Request Entity Too Large"), ("/v1/messages", "request_too_large"), ("/tokenize", "")],
)
async def test_a_body_beyond_the_limit_is_not_read(path: str, kind: str) -> None:
    """On every path; the answer names both sizes. One byte less is served."""
    app = Admission(serve, running=make_running(), max_waiting_requests=2, max_body_bytes=1000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        refused, served = [await client.post(path, content=b"x" * size) for size in (1001, 1000)]
    assert (refused.status_code, served.text) == (413, "served")
    assert kind in refused.text
    assert "has 1001 bytes; up to 1000 are read" in refused.text


async def test_other_protocols_pass() -> None:
    """Lifespan and websockets are vLLM's business."""
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: object) -> Any:
        raise AssertionError

    await Admission(app, running=make_running(num_waiting=3), max_waiting_requests=2, max_body_bytes=1000)(
        {"type": "lifespan"}, nothing, nothing
    )
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    ("uncached", "status"),
    [((600, 400), 200), ((600, 401), 429), ((5000,), 200), ((0,) * 2, 200)],
    ids=["as much as may wait", "more", "one alone", "all cached"],
)
async def test_uncached_tokens_are_bounded_too(uncached: tuple[int, ...], status: int) -> None:
    """The request that asks is the last to have arrived; alone, it is always served."""
    running = RunningRequests(lambda _: None, clock=lambda: 0.0)
    for number, tokens in enumerate(uncached):
        running.arrived(RequestId(str(number)), uncached_tokens=tokens, num_sequences=2)
    app = Admission(serve, running=running, max_waiting_requests=256, max_waiting_tokens=1000, max_body_bytes=1000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://replica") as client:
        response = await client.post("/v1/chat/completions")
    assert response.status_code == status
    if status == 429:
        assert response.json()["error"]["message"] == "No more than 1000 prompt tokens may wait here; try again later."
        assert response.headers["retry-after"] == "1"


async def test_what_is_turned_away_is_work_all_the_same() -> None:
    """Or the autoscaler would see the less, the more there is."""
    running = RunningRequests(lambda _: None, clock=lambda: 0.0)
    for number in range(3):
        running.arrived(RequestId(str(number)), uncached_tokens=100)
    token = current_request_id.set(RequestId("2"))
    assert (await post(running, "/v1/completions")).status_code == 429
    current_request_id.reset(token)
    assert (running.work.arrived_tokens, running.work.waiting_tokens) == (300, 200)


async def post_in_chunks(app: ASGIApp, *, num_chunks: int) -> tuple[httpx.Response, int]:
    """Send chunks of 100 bytes, without saying how many there are; also returns how many were read."""
    num_read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal num_read
        for _ in range(num_chunks):
            num_read += 1
            yield b" " * 100

    limited = Admission(app, running=make_running(), max_waiting_requests=2, max_body_bytes=1000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=limited), base_url="http://replica") as client:
        return await client.post("/v1/messages", content=chunks()), num_read


async def test_a_body_that_does_not_say_how_large_it_is_ends_at_the_limit() -> None:
    """The app learns that the client has gone, and no one hears what it says to that."""

    async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        await serve(scope, receive, send)

    response, _ = await post_in_chunks(read_all, num_chunks=10)
    assert response.text == "served"
    response, num_read = await post_in_chunks(read_all, num_chunks=100)
    assert (response.status_code, response.json()["error"]["type"]) == (413, "request_too_large")
    assert "has 1100 bytes or more; up to 1000 are read" in response.text
    assert num_read == 11


async def test_an_answer_that_has_begun_is_not_followed_by_another() -> None:
    """From an app that did not want the body, and still listens whether the client is there."""

    async def answer_first(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"unknown"})

    response, _ = await post_in_chunks(answer_first, num_chunks=100)
    assert (response.status_code, response.text) == (404, "unknown")

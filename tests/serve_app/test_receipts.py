"""Receipts from the engine's outputs and from the HTTP layer."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

import pytest
from starlette.types import Message, Receive, Scope, Send

from router import ReplicaId, RequestId
from serve_app.explain import ExplainAndReport
from serve_app.receipts import Arrived, Finished, Prefilled, Receipt, current_request_id, report_prefills
from serve_app.routing_note import NOTE_HEADER, RoutingNote

NOTE = RoutingNote(RequestId("id-1"), ReplicaId("here"), "prefix_affinity", "prefix", 100, 64)


@dataclass
class Output:
    """As much of vLLM's RequestOutput as is read."""

    prompt_token_ids: list[int] | None
    num_cached_tokens: int | None


class Engine:
    """Yields a few outputs, and knows whether it was closed."""

    def __init__(self, num_outputs: int = 3, *, cached: int | None = 4) -> None:
        self.outputs = [Output([0] * 10, cached) for _ in range(num_outputs)]
        self.is_closed = False

    async def generate(self, *_args: object, **_kwargs: object) -> AsyncGenerator[Output, None]:
        """The engine's interface."""
        try:
            for output in self.outputs:
                yield output
        finally:
            self.is_closed = True


@pytest.fixture
def routed() -> Iterator[None]:
    """As within a routed request."""
    token = current_request_id.set(RequestId("id-1"))
    yield
    current_request_id.reset(token)


@pytest.mark.usefixtures("routed")
async def test_the_first_output_is_reported_and_all_pass_unchanged() -> None:
    """One receipt a stream, with the engine's own numbers."""
    engine, receipts = Engine(), list[Receipt]()
    outputs = [output async for output in report_prefills(engine.generate, receipts.append)("prompt")]
    assert outputs == engine.outputs
    assert receipts == [Prefilled(RequestId("id-1"), prompt_tokens=10, cached_tokens=4)]


@pytest.mark.usefixtures("routed")
async def test_two_prompts_of_one_request_are_two_receipts() -> None:
    """A list of prompts is several engine requests."""
    engine, receipts = Engine(), list[Receipt]()
    generate = report_prefills(engine.generate, receipts.append)
    for _ in range(2):
        async for _output in generate("prompt"):
            pass
    assert len(receipts) == 2


@pytest.mark.usefixtures("routed")
async def test_a_disconnect_closes_the_engines_stream_at_once() -> None:
    """Or the engine would go on computing for nobody until the garbage collector comes by."""
    engine = Engine()
    stream = report_prefills(engine.generate, lambda _: None)("prompt")
    await anext(stream)
    await stream.aclose()
    assert engine.is_closed


async def test_unrouted_requests_are_not_reported() -> None:
    """Warm-up and health probes are nobody's load; their stream is the engine's own."""
    engine, receipts = Engine(), list[Receipt]()
    stream = report_prefills(engine.generate, receipts.append)("prompt")
    assert [output async for output in stream] == engine.outputs
    assert receipts == []


@pytest.mark.usefixtures("routed")
async def test_a_stream_without_outputs_reports_nothing() -> None:
    """An aborted request has no first token."""
    receipts = list[Receipt]()
    stream = report_prefills(Engine(0).generate, receipts.append)("prompt")
    assert [output async for output in stream] == []
    assert receipts == []


def scope_with(note: RoutingNote | None) -> Scope:
    """An HTTP request, routed or not."""
    return {"type": "http", "headers": [] if note is None else [(NOTE_HEADER.encode(), note.encode().encode())]}


async def receive() -> Message:
    """No body."""
    return {"type": "http.request"}


async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
    """An app that notes which request it serves."""
    scope["seen"] = current_request_id.get()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def call(note: RoutingNote | None) -> tuple[Scope, dict[str, str], list[Receipt]]:
    """One request through the middleware."""
    sent, receipts = list[Message](), list[Receipt]()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = scope_with(note)
    await ExplainAndReport(answer, replica_id="here", report=receipts.append)(scope, receive, send)
    assert sent[1] == {"type": "http.response.body", "body": b"ok"}
    return scope, {name.decode(): value.decode() for name, value in sent[0]["headers"]}, receipts


async def test_a_routed_response_is_explained_and_its_end_reported() -> None:
    """Next to the app's own headers."""
    scope, headers, receipts = await call(NOTE)
    assert headers == {
        "content-type": "text/plain",
        "x-warmroute-replica": "here",
        "x-warmroute-request-id": "id-1",
        "x-warmroute-policy": "prefix_affinity",
        "x-warmroute-reason": "prefix",
        "x-warmroute-prompt-tokens": "100",
        "x-warmroute-believed-cached-tokens": "64",
    }
    assert scope["seen"] == "id-1"
    assert receipts == [Arrived(RequestId("id-1")), Finished(RequestId("id-1"))]
    assert current_request_id.get() is None


async def test_an_unrouted_response_says_so() -> None:
    """Through the fallback proxy, or straight to the replica's port."""
    scope, headers, receipts = await call(None)
    assert (headers["x-warmroute-reason"], headers["x-warmroute-replica"]) == ("unrouted", "here")
    assert scope["seen"] is None
    assert receipts == []


async def test_a_response_by_another_replica_than_chosen_names_both() -> None:
    """HAProxy retries elsewhere when a connection fails."""
    elsewhere = RoutingNote(RequestId("id-1"), ReplicaId("there"), "prefix_affinity", "prefix", 100, 64)
    _, headers, _ = await call(elsewhere)
    assert (headers["x-warmroute-replica"], headers["x-warmroute-routed-to"]) == ("here", "there")


async def test_another_versions_note_costs_the_explanation_only() -> None:
    """During an upgrade, routers and replicas may differ for a while; the request is served."""
    sent = list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "headers": [(NOTE_HEADER.encode(), b"v2;and;more")]}
    await ExplainAndReport(answer, replica_id="here", report=lambda _: None)(scope, receive, send)
    assert (b"x-warmroute-reason", b"unrouted") in sent[0]["headers"]


async def test_unknown_counts_are_left_out() -> None:
    """A prompt that could not be tokenised has no length to tell."""
    _, headers, _ = await call(
        RoutingNote(RequestId("id-1"), ReplicaId("here"), "prefix_affinity", "not_json", None, None)
    )
    assert headers["x-warmroute-reason"] == "not_json"
    assert "x-warmroute-prompt-tokens" not in headers


async def test_a_failing_app_is_reported_as_finished_too() -> None:
    """Whatever happens, the reservation is released; the failure itself goes on."""
    receipts = list[Receipt]()

    async def fail(*_: object) -> None:
        raise RuntimeError("engine died")

    middleware = ExplainAndReport(fail, replica_id="here", report=receipts.append)
    with pytest.raises(RuntimeError, match="engine died"):
        await middleware(scope_with(NOTE), receive, lambda _: receive())  # type: ignore[arg-type,return-value]
    assert receipts == [Arrived(RequestId("id-1")), Finished(RequestId("id-1"))]

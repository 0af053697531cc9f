"""Response headers, and the account of each routed request."""

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router import ReplicaId, RequestId
from serve_app.explain import ExplainAndReport
from serve_app.ledger import Ledger, current_request_id
from serve_app.receipts import Arrived, Finished, Prefilled, Receipt
from serve_app.routing_note import NOTE_HEADER, RoutingNote
from serve_app.settings import EngineName
from serve_app.tenants import Tenants

KEY = b"the cluster's"
NOTE = RoutingNote(RequestId("id-1"), ReplicaId("here"), "prefix_affinity", "prefix", 100, 64)


def make_ledger(receipts: list[Receipt]) -> Ledger:
    """One that stands at time 0."""
    return Ledger(receipts.append, clock=lambda: 0.0)


def around(app: ASGIApp, ledger: Ledger, engine: EngineName = "vllm") -> ExplainAndReport:
    """The middleware of a replica that knows two tenants."""
    tenants = Tenants(["acme", "umbrella"], header="x-tenant")
    return ExplainAndReport(app, replica_id="here", ledger=ledger, engine=engine, tenants=tenants, note_key=KEY)


def scope_with(note: RoutingNote | None) -> Scope:
    """An HTTP request, routed or not."""
    return {"type": "http", "headers": [] if note is None else [(NOTE_HEADER.encode(), note.encode(KEY).encode())]}


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
    await around(answer, make_ledger(receipts))(scope, receive, send)
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
    await around(answer, make_ledger([]))(scope, receive, send)
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

    middleware = around(fail, make_ledger(receipts))
    with pytest.raises(RuntimeError, match="engine died"):
        await middleware(scope_with(NOTE), receive, lambda _: receive())  # type: ignore[arg-type,return-value]
    assert receipts == [Arrived(RequestId("id-1")), Finished(RequestId("id-1"))]


async def test_a_simulated_engine_says_so_in_every_answer() -> None:
    """Routed or not, so that its figures cannot be taken for real ones."""
    for note in (NOTE, None):
        sent = list[Message]()

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        middleware = around(answer, make_ledger([]), engine="simulated")
        await middleware(scope_with(note), receive, send)
        assert (b"x-warmroute-engine", b"simulated") in sent[0]["headers"]


@pytest.mark.parametrize(("value", "tenant"), [("acme", "acme"), ("somebody", "other"), (None, "none")])
async def test_prompts_are_reported_with_their_tenant(value: str | None, tenant: str) -> None:
    """By the gateway's header; no other word of it gets any further."""
    receipts = list[Receipt]()
    ledger = make_ledger(receipts)

    async def prefill(_scope: Scope, _receive: Receive, _send: Send) -> None:
        ledger.prefilled(current_request_id.get(), prompt_tokens=10, cached_tokens=4)

    scope = scope_with(NOTE)
    scope["headers"] += [] if value is None else [(b"x-tenant", value.encode())]
    await around(prefill, ledger)(scope, receive, lambda _: receive())  # type: ignore[arg-type,return-value]
    assert [each.tenant for each in receipts if isinstance(each, Prefilled)] == [tenant]

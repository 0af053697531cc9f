"""Response headers, and the account of each routed request."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router import ReplicaId, RequestId
from serve_app.messages.receipts import Arrived, Finished, Prefilled, Receipt
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.replica.explain import ExplainAndReport
from serve_app.replica.running_requests import RunningRequests, current_request_id
from serve_app.settings.schema import EngineName, ExplainHeaders
from serve_app.settings.tenant_names import TenantNames

KEY = b"the cluster's"
NOTE = RoutingNote(RequestId("id-1"), ReplicaId("here"), "prefix_affinity", "prefix", 100, 64)


def make_running(receipts: list[Receipt]) -> RunningRequests:
    """Running requests whose clock stands at 0."""
    return RunningRequests(receipts.append, clock=lambda: 0.0)


def around(
    app: ASGIApp, running: RunningRequests, engine: EngineName = "vllm", explain_headers: ExplainHeaders = "full"
) -> ExplainAndReport:
    """The middleware of a replica that knows two tenants."""
    tenants = TenantNames(["acme", "umbrella"], header="x-tenant")
    return ExplainAndReport(
        app,
        replica_id="here",
        running=running,
        explain_headers=explain_headers,
        engine=engine,
        tenants=tenants,
        note_key=KEY,
    )


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
    """Send one request through the middleware."""
    sent, receipts = list[Message](), list[Receipt]()

    async def send(message: Message) -> None:
        sent.append(message)

    running = make_running(receipts)

    async def compute_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
        running.prefilled(current_request_id.get(), prompt_tokens=100, cached_tokens=64)
        await answer(scope, receive, send)

    scope = scope_with(note)
    await around(compute_and_answer, running)(scope, receive, send)
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
    assert [type(each) for each in receipts] == [Arrived, Prefilled, Finished]
    assert (receipts[0], receipts[-1]) == (Arrived(RequestId("id-1")), Finished(RequestId("id-1")))
    assert current_request_id.get() is None


BRIEF = {"x-warmroute-request-id": "id-1"}
UNROUTED = {"x-warmroute-replica": "here", "x-warmroute-reason": "unrouted"}
FULL = BRIEF | {
    "x-warmroute-replica": "here",
    "x-warmroute-policy": "prefix_affinity",
    "x-warmroute-reason": "prefix",
    "x-warmroute-prompt-tokens": "100",
    "x-warmroute-believed-cached-tokens": "64",
}
OF_A_PROMPT = [(200, "application/json", True), (200, "text/event-stream", True), (201, "application/json", True)]
OF_NO_PROMPT = [
    pytest.param(200, "application/json", False, id="tokenised"),
    pytest.param(200, "text/event-stream", False, id="stream that is refused, or not begun"),
    pytest.param(400, "application/json", False, id="bad request"),
    pytest.param(404, "application/json", False, id="unknown path"),
    pytest.param(429, "application/json", False, id="turned away"),
    pytest.param(500, "application/json", True, id="failed later"),
]
"""Status and type of an answer, and whether the engine had computed the prompt before."""


async def own_headers(
    note: RoutingNote | None, mode: ExplainHeaders, status: int, content_type: str, has_computed: bool
) -> dict[str, str]:
    """Ours, of such an answer."""
    sent, running = list[Message](), make_running([])

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if has_computed:
            running.prefilled(current_request_id.get(), prompt_tokens=100, cached_tokens=64)
        headers = [(b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message: Message) -> None:
        sent.append(message)

    await around(app, running, explain_headers=mode)(scope_with(note), receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert headers.pop("content-type") == content_type
    return headers


@pytest.mark.parametrize(("mode", "expected"), [("off", {}), ("brief", BRIEF), ("full", FULL)])
@pytest.mark.parametrize(("status", "content_type", "has_computed"), OF_A_PROMPT)
async def test_an_answer_to_a_prompt_says_what_the_setting_allows(
    mode: ExplainHeaders, expected: dict[str, str], status: int, content_type: str, has_computed: bool
) -> None:
    """Whole or as a stream."""
    assert await own_headers(NOTE, mode, status, content_type, has_computed) == expected


@pytest.mark.parametrize(("mode", "expected"), [("off", {}), ("brief", BRIEF), ("full", BRIEF)])
@pytest.mark.parametrize(("status", "content_type", "has_computed"), OF_NO_PROMPT)
async def test_no_other_answer_tells_what_is_cached(
    mode: ExplainHeaders, expected: dict[str, str], status: int, content_type: str, has_computed: bool
) -> None:
    """Else a client would learn of others' prompts for nothing."""
    assert await own_headers(NOTE, mode, status, content_type, has_computed) == expected


@pytest.mark.parametrize(("mode", "expected"), [("off", {}), ("brief", {}), ("full", UNROUTED)])
@pytest.mark.parametrize(("status", "content_type", "has_computed"), [*OF_A_PROMPT, *OF_NO_PROMPT])
async def test_an_unrouted_answer_has_no_id(
    mode: ExplainHeaders, expected: dict[str, str], status: int, content_type: str, has_computed: bool
) -> None:
    """No router gave it one."""
    assert await own_headers(None, mode, status, content_type, has_computed) == expected


COUNTS = st.none() | st.integers(min_value=0)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_#0123456789", min_size=1)
NOTES = st.builds(RoutingNote, st.just(RequestId("id-1")), NAMES.map(ReplicaId), NAMES, NAMES, COUNTS, COUNTS)


@given(note=NOTES, status=st.integers(min_value=200, max_value=599), has_computed=st.booleans())
async def test_brief_headers_are_the_same_whatever_the_router_knew(
    note: RoutingNote, status: int, has_computed: bool
) -> None:
    """And whatever became of the request: nothing of its way is in them."""
    assert await own_headers(note, "brief", status, "application/json", has_computed) == BRIEF


@given(note=NOTES, status=st.integers(min_value=200, max_value=599))
async def test_without_an_engines_word_full_headers_are_no_more(note: RoutingNote, status: int) -> None:
    """Than brief ones."""
    assert await own_headers(note, "full", status, "application/json", has_computed=False) == BRIEF


async def test_headers_that_are_off_are_off_for_a_simulated_engine_too() -> None:
    """Settings do not allow it; the middleware keeps its word."""
    sent = list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    middleware = around(answer, make_running([]), engine="simulated", explain_headers="off")
    await middleware(scope_with(NOTE), receive, send)
    assert sent[0]["headers"] == [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(
    "note", [b"\xff", b"a;b;c;d;1;2\xff", b"a\r\nset-cookie: x;b;c;d;1;2", b"a;b;c;d;" + b"9" * 5000 + b";2", b"a;b"]
)
async def test_a_note_that_no_router_wrote_is_none(note: bytes) -> None:
    """The request is served all the same."""
    sent = list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(NOTE_HEADER.encode(), note), (b"x-tenant", b"\xff")]}
    await around(answer, make_running([]))(scope, receive, send)
    assert dict(sent[0]["headers"])[b"x-warmroute-reason"] == b"unrouted"


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
    await around(answer, make_running([]))(scope, receive, send)
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

    middleware = around(fail, make_running(receipts))
    with pytest.raises(RuntimeError, match="engine died"):
        await middleware(scope_with(NOTE), receive, lambda _: receive())  # type: ignore[arg-type,return-value]
    assert receipts == [Finished(RequestId("id-1"))]


async def test_a_simulated_engine_says_so_in_every_answer() -> None:
    """Routed or not, so that its figures cannot be taken for real ones."""
    modes: list[ExplainHeaders] = ["brief", "full"]
    for note, mode in itertools.product((NOTE, None), modes):
        sent = list[Message]()

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        middleware = around(answer, make_running([]), engine="simulated", explain_headers=mode)
        await middleware(scope_with(note), receive, send)
        assert (b"x-warmroute-engine", b"simulated") in sent[0]["headers"]


@pytest.mark.parametrize(("value", "tenant"), [("acme", "acme"), ("another", "other"), (None, "none")])
async def test_prompts_are_reported_with_their_tenant(value: str | None, tenant: str) -> None:
    """By the gateway's header; no other word of it gets any further."""
    receipts = list[Receipt]()
    running = make_running(receipts)

    async def prefill(_scope: Scope, _receive: Receive, _send: Send) -> None:
        running.prefilled(current_request_id.get(), prompt_tokens=10, cached_tokens=4)

    scope = scope_with(NOTE)
    scope["headers"] += [] if value is None else [(b"x-tenant", value.encode())]
    await around(prefill, running)(scope, receive, lambda _: receive())  # type: ignore[arg-type,return-value]
    assert [each.tenant for each in receipts if isinstance(each, Prefilled)] == [tenant]

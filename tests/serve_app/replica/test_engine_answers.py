"""What a replica tells of answers and preemptions, with vLLM's own HTTP app around a simulated engine.

`make test` runs it in a process of its own, because vLLM leaves some of itself behind in one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
import pytest_asyncio
from starlette.types import ASGIApp, Message

from router import ReplicaId, RequestId
from serve_app.messages.receipts import Finished, Prefilled, Receipt, Status
from serve_app.messages.response_headers import EXPLAIN_PREFIX
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.replica.admission import Admission
from serve_app.replica.departure import Departure
from serve_app.replica.explain import ExplainAndReport
from serve_app.replica.running_requests import RunningRequests
from serve_app.replica.vllm_outputs import EngineWatch
from serve_app.settings.tenant_names import TenantNames
from tests.serve_app.simulated_engines import BLOCK_SIZE, ask, make_app, running_engine

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, of an engine that is started in this process
]

KEY = b"the cluster's"
PROMPT = list(range(500, 900))
TIMEOUT_S = 60.0


class Replica:
    """An engine with its app, what it tells, and a count of our own of the tokens that its front end took in."""

    def __init__(self, engine: Any, app: ASGIApp) -> None:
        self.engine = engine
        self.receipts: list[Receipt] = []
        self.running = RunningRequests(self.receipts.append, clock=lambda: 0.0)
        self.engine_id_to_tokens: Counter[str] = Counter()
        self.has_tokens = asyncio.Event()
        self._count_tokens()
        EngineWatch(self.running).attach(engine.output_processor)
        tenants = TenantNames([], header="x-tenant")
        admitted = Admission(app, running=self.running, max_waiting_requests=1000, max_body_bytes=1_000_000)
        explained = ExplainAndReport(
            admitted, replica_id="r0", running=self.running, explain_headers="full", tenants=tenants, note_key=KEY
        )
        self._app = Departure(explained)

    def _count_tokens(self) -> None:
        processor = self.engine.output_processor
        original = processor.process_outputs

        def counting(outputs: Sequence[Any], *args: Any) -> Any:
            for each in outputs:
                if each.request_id in processor.request_states:
                    self.engine_id_to_tokens[each.request_id] += len(each.new_token_ids)
                    self.has_tokens.set()
            return original(outputs, *args)

        processor.process_outputs = counting

    async def post(
        self, request_id: str, fields: dict[str, object], *, leave_after: int | None = None, status: int = 200
    ) -> Finished:
        """Ask for a completion of a routed request, and perhaps leave after so many parts; returns its last receipt."""
        note = RoutingNote(RequestId(request_id), ReplicaId("r0"), "p", "prefix", len(PROMPT), 0)
        body = {"prompt": PROMPT, "ignore_eos": True, **fields}
        parts, is_gone = 0, asyncio.Event()
        incoming = [{"type": "http.request", "body": orjson.dumps(body), "more_body": False}]

        async def receive() -> Message:
            if incoming:
                return incoming.pop()
            await is_gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal parts
            assert message.get("status", status) == status
            parts += bool(message.get("body"))
            if parts == leave_after:
                is_gone.set()

        await asyncio.wait_for(self._app(_scope(note), receive, send), TIMEOUT_S)
        (finished,) = (each for each in self.receipts if isinstance(each, Finished) and each.request_id == request_id)
        return finished

    async def head(self, path: str, fields: dict[str, object]) -> tuple[int, dict[str, str]]:
        """The status of the answer to a routed request, and the headers of ours that it has."""
        note = RoutingNote(RequestId("asked"), ReplicaId("r0"), "p", "prefix", len(PROMPT), 0)
        model = self.engine.vllm_config.model_config.model
        incoming = [{"type": "http.request", "body": orjson.dumps({"model": model, **fields}), "more_body": False}]
        starts: list[Message] = []

        async def receive() -> Message:
            if incoming:
                return incoming.pop()
            await asyncio.Event().wait()
            raise AssertionError("nothing else comes")

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                starts.append(message)

        await asyncio.wait_for(self._app(_scope(note, path), receive, send), TIMEOUT_S)
        (start,) = starts
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], {name: value for name, value in headers.items() if name.startswith(EXPLAIN_PREFIX)}

    async def give_up(self, path: str, fields: dict[str, object]) -> Finished:
        """Cancel a request that is being answered, as Serve does when its client has gone; returns its last receipt."""
        self.has_tokens.clear()
        note = RoutingNote(RequestId("given up"), ReplicaId("r0"), "p", "prefix", len(PROMPT), 0)
        incoming = [{"type": "http.request", "body": orjson.dumps(fields), "more_body": False}]

        async def receive() -> Message:
            if incoming:
                return incoming.pop()
            await asyncio.Event().wait()
            raise AssertionError("nothing else comes")

        async def send(_message: Message) -> None:
            pass

        request = asyncio.create_task(self._app(_scope(note, path), receive, send))
        await asyncio.wait_for(self.has_tokens.wait(), TIMEOUT_S)
        request.cancel()
        await asyncio.wait((request,), timeout=TIMEOUT_S)
        assert request.cancelled()
        return next(each for each in reversed(self.receipts) if isinstance(each, Finished))


def _scope(note: RoutingNote, path: str = "/v1/completions") -> dict[str, Any]:
    headers = [(b"content-type", b"application/json"), (NOTE_HEADER.encode(), note.encode(KEY).encode())]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},  # as uvicorn's, by which apps hear of a disconnect
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica() -> AsyncIterator[Replica]:
    """Started once."""
    with running_engine() as engine:
        yield Replica(engine, await make_app(engine))


@pytest.mark.parametrize(
    ("name", "fields", "answer_tokens"),
    [
        ("plain", {"max_tokens": 40}, 40),
        ("streamed", {"max_tokens": 40, "stream": True}, 40),
        ("choices", {"max_tokens": 40, "n": 2}, 80),
        ("streamed choices", {"max_tokens": 40, "n": 2, "stream": True}, 80),
        ("prompts", {"max_tokens": 40, "prompt": [PROMPT, PROMPT[:100]]}, 80),
        ("no limit", {}, 16),
    ],
)
async def test_a_receipt_ends_with_the_tokens_of_the_answer(
    replica: Replica, name: str, fields: dict[str, object], answer_tokens: int
) -> None:
    """All choices and prompts together, however the client gets them; and nothing is kept of the request."""
    assert await replica.post(name, fields) == Finished(RequestId(name), answer_tokens)
    assert replica.running.num_outstanding == 0


def watch_waiting(running: RunningRequests, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sequences that wait, before each first output."""
    seen: list[int] = []
    prefilled = running.prefilled

    def watched(*args: Any, **kwargs: Any) -> None:
        seen.append(running.num_waiting)
        prefilled(*args, **kwargs)

    monkeypatch.setattr(running, "prefilled", watched)
    return seen


async def test_a_prompt_is_computed_once_for_all_its_answers(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for its last block, which each computes by itself. All wait, though the router knew of one only."""
    seen, first = watch_waiting(replica.running, monkeypatch), len(replica.receipts)
    prompt = [7, *PROMPT[1:]]
    await replica.post("eight", {"prompt": prompt, "max_tokens": 4, "n": 8})
    prefills = [each for each in replica.receipts[first:] if isinstance(each, Prefilled)]
    computed_tokens = sorted(each.prompt_tokens - each.cached_tokens for each in prefills)
    assert computed_tokens == [BLOCK_SIZE] * 7 + [len(prompt)]
    assert seen == [8, 7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("list", {"prompt": [PROMPT, PROMPT[:100], PROMPT[:200]], "n": 2}, [6, 5, 4, 3, 2, 1]),
        ("beams", {"use_beam_search": True, "n": 3}, [1, *[3, 2, 1] * 3]),
    ],
)
async def test_every_sequence_that_the_engine_has_waits_for_its_first_token(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, name: str, fields: dict[str, object], expected: list[int]
) -> None:
    """Of a list, and of beams: one at first, and then all with every token."""
    seen = watch_waiting(replica.running, monkeypatch)
    await replica.post(name, {"max_tokens": 4, **fields})
    assert seen == expected
    assert (replica.running.num_waiting, replica.running.num_outstanding) == (0, 0)


@pytest.mark.parametrize("num_choices", [1, 2])
async def test_of_an_aborted_request_it_has_what_was_generated_until_then(replica: Replica, num_choices: int) -> None:
    """The client goes after some parts of the stream; then the engine stops, and vLLM has forgotten the request."""
    replica.engine_id_to_tokens.clear()
    fields = {"max_tokens": 600, "stream": True, "n": num_choices}
    finished = await replica.post(f"left {num_choices}", fields, leave_after=20)
    assert not replica.engine.output_processor.has_unfinished_requests()
    assert len(replica.engine_id_to_tokens) == num_choices
    assert finished.answer_tokens == replica.engine_id_to_tokens.total()
    assert 18 <= finished.answer_tokens < 600 * num_choices


CHAT: dict[str, object] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
TEXT: dict[str, object] = {"prompt": "Hello", "max_tokens": 2}
OF_A_PROMPT = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    ("/v1/completions", TEXT),
    ("/v1/completions", TEXT | {"stream": True}),
    ("/v1/messages", CHAT),
    ("/v1/messages", CHAT | {"stream": True}),
    ("/v1/responses", {"input": "Hello", "max_output_tokens": 2}),
]
NOT_OF_A_PROMPT = [
    ("/v1/responses", {"input": "Hello", "max_output_tokens": 2, "stream": True}, 200),  # its first event is early
    ("/v1/completions", TEXT | {"stream": True, "logit_bias": {"999999": 1}}, 200),  # refused within the stream
    ("/v1/completions", TEXT | {"max_tokens": -1}, 400),
    ("/v1/chat/completions", CHAT | {"messages": "Hello"}, 400),
    ("/v1/chat/completions", CHAT | {"model": "no-such-model"}, 404),
    ("/v1/no_such_path", CHAT, 404),
    ("/tokenize", TEXT, 200),
    ("/v1/messages/count_tokens", CHAT, 200),
    ("/v1/chat/completions/render", CHAT, 200),
]


@pytest.mark.parametrize(("path", "fields"), OF_A_PROMPT)
async def test_an_answer_says_what_was_believed_of_its_prompt(
    replica: Replica, path: str, fields: dict[str, object]
) -> None:
    """vLLM has computed it before the headers go out, in a stream too."""
    status, headers = await replica.head(path, fields)
    assert status == 200
    assert {"x-warmroute-reason", "x-warmroute-believed-cached-tokens", "x-warmroute-replica"} <= headers.keys()


@pytest.mark.parametrize(("path", "fields", "status"), NOT_OF_A_PROMPT)
async def test_an_answer_before_the_prompt_is_computed_says_nothing_of_it(
    replica: Replica, path: str, fields: dict[str, object], status: int
) -> None:
    """Nor does one of a prompt that never is."""
    assert await replica.head(path, fields) == (status, {"x-warmroute-request-id": "asked"})


LONG: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 600},
    "/v1/completions": {"prompt": PROMPT, "max_tokens": 600},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 600},
    "/v1/responses": {"input": "Hello", "max_output_tokens": 600},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streaming"])
@pytest.mark.parametrize("path", LONG)
async def test_nothing_is_computed_for_a_client_that_has_left(replica: Replica, path: str, *, stream: bool) -> None:
    """When the request is over, the engine has none any more; until then it is counted."""
    replica.engine_id_to_tokens.clear()
    fields = {"model": replica.engine.vllm_config.model_config.model, **LONG[path], "stream": stream}
    if path != "/v1/responses":
        fields["ignore_eos"] = True
    finished = await replica.give_up(path, fields)
    assert not replica.engine.output_processor.has_unfinished_requests()
    assert replica.running.num_outstanding == 0
    assert finished.answer_tokens == replica.engine_id_to_tokens.total() < 600


async def test_a_request_that_the_engine_never_had_has_no_answer(replica: Replica) -> None:
    """vLLM refuses it before; its end says that nothing is known."""
    assert await replica.post("refused", {"max_tokens": -1}, status=400) == Finished(RequestId("refused"), None)


async def test_heartbeats_count_preemptions_as_vllm_does(replica: Replica) -> None:
    """Three prompts of 400 tokens fit into 1,600, but not with answers of 300."""
    from prometheus_client import REGISTRY

    prompts = [[number, *PROMPT[1:]] for number in range(3)]
    await asyncio.gather(
        *(ask(replica.engine, f"many {number}", prompt, max_tokens=300) for number, prompt in enumerate(prompts))
    )
    replica.running.report_status()
    status = replica.receipts[-1]
    assert isinstance(status, Status)
    assert status.engine is not None
    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    (counted,) = (each.value for each in samples if each.name == "vllm:num_preemptions_total")
    assert status.engine.preempted == counted > 0
    answers = [each.answer_tokens for each in replica.receipts if isinstance(each, Finished)]
    assert status.answer_tokens == sum(each or 0 for each in answers), "of routed requests"

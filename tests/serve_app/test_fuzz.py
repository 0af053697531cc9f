"""Whatever a client sends, a replica answers it and keeps it to itself, and the router reads it or knows why not.

Bodies of `bad_bodies` go to vLLM's own HTTP app around a simulated engine, with all that a replica puts before it. Set
WARMROUTE_FUZZ_BODIES for more of them, and WARMROUTE_FUZZ_SEED for others.
"""

import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from starlette.datastructures import Headers

from router import ReplicaId, RequestId
from serve_app.demo.model import build_demo_model
from serve_app.ingress.text_headers import TextHeaders
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.prompt.body import Prompt, Unreadable, is_anthropic
from serve_app.prompt.incoming import RequestReader
from serve_app.prompt.served_model import ServedModel
from serve_app.replica.admission import Admission
from serve_app.replica.brief_errors import BriefErrors
from serve_app.replica.departure import Departure
from serve_app.replica.explain import ExplainAndReport
from serve_app.replica.log_file import SERVE_LOGGER
from serve_app.replica.request_log import RequestLog
from serve_app.replica.running_requests import RunningRequests
from serve_app.replica.vllm_outputs import EngineWatch
from serve_app.settings.tenant_names import TenantNames
from tests.serve_app.bad_bodies import MARK, MODEL, Body, bodies
from tests.serve_app.simulated_engines import make_app, running_engine
from tests.servers import DEMO_MODEL

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, of an engine that is started in this process
]

SEED = os.environ.get("WARMROUTE_FUZZ_SEED", "warmroute")
NUM_BODIES = int(os.environ.get("WARMROUTE_FUZZ_BODIES", "1200"))
MAX_ERROR_BYTES = 65_536
SERVER_ERRORS = 500
MAX_MODEL_LEN = 1024
MAX_SEQUENCES = 8
NOTE_KEY = b"the cluster's"
HEADERS = {
    "content-type": "application/json",
    "authorization": f"Bearer {MARK} key",
    "x-api-key": f"{MARK} key",
    "x-session-id": f"{MARK} header's session",
}
LONG_NUMBER = re.compile(rb"\d{19}")
UNREAD_BUT_SERVED = {
    Unreadable.SEVERAL_PROMPTS,
    Unreadable.NO_PROMPT,  # embeddings in its place
}
"""Why a router may have no key for what a replica serves."""
PROMPT_FIELD = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/messages": "messages",
    "/v1/responses": "input",
}


class Logs(logging.Handler):
    """All that is logged in this process, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, with its traceback."""
        self.lines.append(self.format(record))


class Replica:
    """What answers clients, and what it writes down."""

    def __init__(self, engine: Any, app: Any) -> None:
        self.engine = engine
        self.receipts: list[object] = []
        self.request_lines: list[bytes] = []
        self.running = RunningRequests(self.receipts.append, clock=lambda: 0.0)
        log = RequestLog(lambda fields: self.request_lines.append(orjson.dumps(dict(fields))), clock=lambda: 0.0)
        EngineWatch(self.running).attach(engine.output_processor)
        app = Admission(
            BriefErrors(app), running=self.running, max_waiting_requests=MAX_SEQUENCES, max_body_bytes=2**20
        )
        app = ExplainAndReport(
            app,
            replica_id="r0",
            running=self.running,
            explain_headers="full",
            log=log,
            tenants=TenantNames([], header="x-tenant"),
            note_key=NOTE_KEY,
        )
        transport = httpx.ASGITransport(TextHeaders(Departure(app)), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://replica", timeout=60)

    async def post(self, body: Body) -> httpx.Response:
        """Send a request on, as a router does."""
        note = RoutingNote(RequestId(f"w{body.number}"), ReplicaId("r0"), "p", "prefix", 5, 0)
        headers = {**HEADERS, NOTE_HEADER: note.encode(NOTE_KEY)}
        return await self.client.post(body.path, content=body.content, headers=headers)


@pytest.fixture(scope="module")
def engine_output(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What processes that are started within write, the engine's."""
    path = tmp_path_factory.mktemp("engine") / "output"
    handler = logging.FileHandler(path)  # of which a forked process has a copy
    saved = [os.dup(number) for number in (1, 2)]
    with path.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    logging.getLogger("vllm").addHandler(handler)
    yield path
    logging.getLogger("vllm").removeHandler(handler)
    handler.close()
    for number, copy in zip((1, 2), saved, strict=True):
        os.dup2(copy, number)
        os.close(copy)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replica(engine_output: Path) -> AsyncIterator[Replica]:
    """Started once."""
    from serve_app.prompt.validation import bound_validation
    from serve_app.prompt.vllm_client_faults import blame_clients

    build_demo_model(DEMO_MODEL)
    assert os.path.exists(engine_output)  # noqa: ASYNC240, PTH110  the engine's processes inherit it
    with running_engine(max_model_len=MAX_MODEL_LEN) as engine:
        app = await make_app(engine, served_model_name=MODEL)
        bound_validation(app, max_objects=MAX_MODEL_LEN, max_sequences=MAX_SEQUENCES)
        blame_clients(app, engine)
        app.middleware_stack = None  # as for a replica, built again
        yield Replica(engine, app)


@pytest.fixture(scope="module")
def reader() -> RequestReader:
    """A router's, of the same model."""
    from serve_app.prompt.vllm_reader import PromptReader

    llm = {
        "model_loading_config": {"model_id": MODEL, "model_source": str(DEMO_MODEL)},
        "accelerator_config": {"kind": "cpu"},
        "engine_kwargs": {"max_model_len": MAX_MODEL_LEN, "enforce_eager": True},
    }
    reader = RequestReader(session_header="x-session-id", model=ServedModel.from_llm(llm), max_sequences=MAX_SEQUENCES)
    reader.prompts = PromptReader(llm)
    return reader


@pytest.fixture
def logs() -> Iterator[Logs]:
    """The lines of all that log here."""
    handler = Logs()
    loggers = [logging.getLogger(name) for name in (None, SERVE_LOGGER, "vllm")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.mark.timeout(max(300, NUM_BODIES))
async def test_no_body_is_the_servers_fault(
    replica: Replica, reader: RequestReader, logs: Logs, engine_output: Path
) -> None:
    """Each is answered, what is refused in few words, and nothing of it stays: not in logs, not in the engine."""
    num_served = num_refused = 0
    for body in bodies(SEED, NUM_BODIES):
        where = f"body {body.number} of seed {SEED!r} to {body.path}: {body.content[:2000]!r}"
        response = await replica.post(body)
        assert response.status_code < SERVER_ERRORS, f"{where}: {response.status_code} {response.text[:500]}"
        incoming = await reader.read(body.content, Headers(HEADERS))
        assert incoming.prompt is not Unreadable.RENDER_ERROR, where
        if response.is_error:
            num_refused += 1
            assert len(response.content) < MAX_ERROR_BYTES, where
            assert message_of(response), where
        else:
            num_served += 1
            if is_comparable(body):
                assert_read(incoming.prompt, response, where)
        assert not replica.engine.output_processor.has_unfinished_requests(), where
    assert not replica.engine.errored
    assert min(num_served, num_refused) > NUM_BODIES / 5, "so that both are looked at"
    assert replica.running.num_outstanding == 0
    sys.stdout.flush()
    told = ["\n".join(logs.lines), b"\n".join(replica.request_lines).decode(), engine_output.read_text()]  # noqa: ASYNC240
    assert all(told), "all three are listened to"
    for text in told:
        assert MARK not in text, text[max(0, text.index(MARK) - 1500) :][:2500]


def message_of(response: httpx.Response) -> str:
    """The error's message as vLLM, Anthropic or, for what is no JSON at all, FastAPI writes it."""
    error = response.json()
    return str(error["detail"] if "detail" in error else error["error"]["message"])


def is_comparable(body: Body) -> bool:
    """Whether its fields say which API a body is for, as a router is not told the path, and what the router parses it
    with can: it takes no text that is not JSON, makes numbers of over 64 bits floats, and writes nothing so deep again.
    """
    if body.path not in PROMPT_FIELD or LONG_NUMBER.search(body.content):
        return False
    try:
        fields = orjson.loads(body.content)
        orjson.dumps(fields)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return False
    if {"messages", "prompt", "input"} & fields.keys() != {PROMPT_FIELD[body.path]}:
        return False
    return "messages" not in fields or is_anthropic(fields) == (body.path == "/v1/messages")


def assert_read(prompt: Prompt | Unreadable, response: httpx.Response, where: str) -> None:
    """The router read what the replica did; or it knows why not."""
    if isinstance(prompt, Unreadable):
        assert prompt in UNREAD_BUT_SERVED, f"{where}: {prompt}"
        return
    usage = {} if response.headers["content-type"].startswith("text/event-stream") else response.json()["usage"]
    counts = {usage[name] for name in ("prompt_tokens", "input_tokens") if name in usage}
    assert counts <= {len(prompt.token_ids)}, f"{where}: {counts} tokens, not {len(prompt.token_ids)}"

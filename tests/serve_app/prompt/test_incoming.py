"""From what HAProxy hands over to what the core decides on."""

import asyncio
from typing import Any

import orjson
import pytest
from starlette.datastructures import Headers

from router import BlockHasher, ReplicaId, RequestId, RouteRequest, hash_blocks, root_hash, session_key
from serve_app.messages.response_ids import new_response_id
from serve_app.messages.snapshot import ReaderSnapshot
from serve_app.prompt.body import Prompt, Unreadable, UnreadableError, parse_body
from serve_app.prompt.incoming import TRUNCATED_HEADER, RequestReader
from serve_app.prompt.served_model import ServedModel

BLOCK_SIZE = 4
TOKEN_IDS = list(range(10))
REPLICA_IDS = (ReplicaId("app#LLM#first"), ReplicaId("app#LLM#second"))


class FakePrompts:
    """Tokenises what it was told to, or refuses."""

    max_model_len = 50
    tokenizer = "fastokens"

    def snapshot(self) -> ReaderSnapshot:
        """As a router shows it."""
        return ReaderSnapshot(tokenizer=self.tokenizer)

    def __init__(self, refusal: Unreadable | None = None, *, num_prompt_tokens: int | None = None) -> None:
        self._refusal = refusal
        self._num_prompt_tokens = num_prompt_tokens

    async def read(self, fields: dict[str, Any]) -> Prompt:
        """Ten tokens."""
        if self._refusal is not None:
            raise UnreadableError(self._refusal, num_prompt_tokens=self._num_prompt_tokens)
        return Prompt(TOKEN_IDS, cache_salt=fields.get("cache_salt", ""))


async def described(
    body: object,
    *,
    session: str | None = None,
    prompts: FakePrompts | None = None,
    is_truncated: bool = False,
    header: str = "X-Session-Id",
    timeout_s: float | None = None,
) -> tuple[Unreadable | None, RouteRequest]:
    """Why the prompt is unreadable, and what the core gets."""
    reader = RequestReader(session_header=header, model=ServedModel("m", loads_adapters=False), max_sequences=256)
    reader.prompts = prompts
    headers = {} if session is None else {"x-session-id": session}
    if is_truncated:
        headers[TRUNCATED_HEADER] = "10/20"
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    incoming = await reader.read(content, Headers(headers), timeout_s=timeout_s)
    reason = incoming.prompt if isinstance(incoming.prompt, Unreadable) else None
    return reason, incoming.describe(RequestId("id"), BlockHasher(block_size=BLOCK_SIZE), REPLICA_IDS)


async def test_a_prompt_becomes_block_hashes() -> None:
    """Of its two full blocks, under the model's root."""
    reason, request = await described({"model": "m"}, prompts=FakePrompts())
    root = root_hash(model="m", adapter="", tenant="", cache_salt="")
    assert reason is None
    assert request == RouteRequest(
        RequestId("id"), "m", "", 10, hash_blocks(TOKEN_IDS, block_size=BLOCK_SIZE, root=root), None
    )


class StuckPrompts(FakePrompts):
    """Never has tokenised anything."""

    async def read(self, fields: dict[str, Any]) -> Prompt:
        """Until it is given up."""
        await asyncio.Event().wait()
        return await super().read(fields)


async def test_a_prompt_that_takes_too_long_is_not_waited_for() -> None:
    """It goes by its length and its session."""
    body = {"prompt": "x" * 100, "session_id": "ann"}
    reason, request = await described(body, prompts=StuckPrompts(), timeout_s=0)
    assert (reason, request.block_hashes, request.session_key) == (Unreadable.BUSY, (), session_key("ann"))
    assert 100 / 4 <= request.num_prompt_tokens <= 50


async def test_every_name_of_the_base_model_has_one_key() -> None:
    """Its own, and none at all: vLLM serves the same, from the same cache."""
    requests = [
        (await described(body, prompts=FakePrompts()))[1]
        for body in ({"model": "m"}, {}, {"model": ""}, {"model": None})
    ]
    assert len({(request.model, request.block_hashes) for request in requests}) == 1


async def test_an_adapter_has_keys_of_its_own() -> None:
    """So has each of two, and each cache salt under each; a model's name is not mistaken for an adapter's."""
    bodies = ({}, {"model": "a"}, {"model": "b"}, {"cache_salt": "a"}, {"model": "a", "cache_salt": "a"})
    requests = [(await described(body, prompts=FakePrompts()))[1] for body in bodies]
    assert len({request.block_hashes[0] for request in requests}) == len(bodies)
    assert {request.model for request in requests} == {"m"}


async def test_what_continues_a_stored_response_belongs_where_that_is() -> None:
    """If the replica is still there, and made the response's id itself."""
    for response_id, expected in (
        (new_response_id(REPLICA_IDS[1]), REPLICA_IDS[1]),
        (new_response_id("app#LLM#gone"), None),
        ("resp_of_the_clients_own", None),
        (7, None),
    ):
        body = {"previous_response_id": response_id}
        found, request = await described(body, prompts=FakePrompts(Unreadable.STORED_STATE))
        assert (found, request.stored_at) == (Unreadable.STORED_STATE, expected)
    _, before = await described({"previous_response_id": new_response_id(REPLICA_IDS[0])})
    assert before.stored_at == REPLICA_IDS[0]


@pytest.mark.parametrize(("num_bytes", "expected"), [(3, 0), (100, 25), (1000, 50)])
async def test_an_unread_prompt_is_guessed_by_its_bytes(num_bytes: int, expected: int) -> None:
    """Four a token, and no more than the model takes, once that is known."""
    _, request = await described(b"x" * num_bytes, prompts=FakePrompts())
    assert (request.num_prompt_tokens, request.block_hashes) == (expected, ())
    _, before = await described(b"x" * num_bytes)
    assert before.num_prompt_tokens == num_bytes // 4


@pytest.mark.parametrize(
    ("session", "body", "expected"),
    [
        (None, {}, ""),
        ("ann", {}, "ann"),
        (None, {"prompt_cache_key": "key"}, "key"),
        (None, {"session_id": "own", "prompt_cache_key": "key"}, "own"),
        ("ann", {"session_id": "own", "prompt_cache_key": "key"}, "ann"),
        ("", {"prompt_cache_key": "key"}, "key"),
    ],
)
async def test_the_header_names_the_session_before_the_body(
    session: str | None, body: dict[str, object], expected: str
) -> None:
    """And an empty header names none."""
    _, request = await described({"model": "m", **body}, session=session, prompts=FakePrompts())
    assert request.session_key == session_key(expected)


@pytest.mark.parametrize("name", ["x-correlation-id", ""])
async def test_only_the_configured_header_counts(name: str) -> None:
    """RAY_SERVE_SESSION_ID_HEADER_KEY may name another, or none."""
    _, request = await described({"model": "m"}, session="ann", prompts=FakePrompts(), header=name)
    assert request.session_key is None


@pytest.mark.parametrize(
    ("reason", "body", "prompts"),
    [
        (Unreadable.EMPTY_BODY, b"", FakePrompts()),
        (Unreadable.NOT_JSON, b'{"prompt_cache_key": "key"', FakePrompts()),
        (Unreadable.NOT_JSON, b'["key"]', FakePrompts()),
    ],
)
async def test_what_is_not_an_object_has_the_headers_session_only(
    reason: Unreadable, body: bytes, prompts: FakePrompts
) -> None:
    """Whatever may be in it."""
    found, request = await described(body, session="ann", prompts=prompts)
    assert (found, request.session_key) == (reason, session_key("ann"))
    assert (await described(body, prompts=prompts))[1].session_key is None


@pytest.mark.parametrize("reason", [Unreadable.SEVERAL_PROMPTS, Unreadable.STORED_STATE, Unreadable.REJECTED])
async def test_an_unreadable_prompt_keeps_its_session(reason: Unreadable) -> None:
    """From the header or the body: a stored response is continued where the session is, if anywhere."""
    for session, body in (("ann", {}), (None, {"prompt_cache_key": "ann"})):
        found, request = await described(body, session=session, prompts=FakePrompts(reason))
        assert (found, request.block_hashes, request.session_key) == (reason, (), session_key("ann"))


async def test_a_truncated_body_is_not_looked_into() -> None:
    """The header's session is all there is, even if what arrived happens to be JSON."""
    body = {"model": "m", "prompt_cache_key": "key"}
    found, request = await described(body, session="ann", prompts=FakePrompts(), is_truncated=True)
    assert (found, request.session_key) == (Unreadable.TRUNCATED_BODY, session_key("ann"))
    assert (await described(body, prompts=FakePrompts(), is_truncated=True))[1].session_key is None


async def test_a_router_that_cannot_tokenise_yet_knows_sessions() -> None:
    """It has just been started, alone."""
    found, request = await described({"model": "m", "prompt_cache_key": "key"})
    assert (found, request.session_key) == (Unreadable.STARTING, session_key("key"))


@pytest.mark.parametrize("refusal", [None, Unreadable.SEVERAL_PROMPTS, Unreadable.REJECTED])
async def test_the_longest_answer_is_known_of_every_body_that_is_json(refusal: Unreadable | None) -> None:
    """Whether its prompt has a key or not; of one that was cut off, nothing is known."""
    body = {"messages": [], "max_tokens": 7}
    _, request = await described(body, prompts=FakePrompts(refusal))
    assert request.max_answer_tokens == 7
    _, cut = await described(body, prompts=FakePrompts(refusal), is_truncated=True)
    assert cut.max_answer_tokens is None


async def test_a_number_that_no_integer_holds_is_no_limit() -> None:
    """JSON has no bound, and peers are told in 64 bits."""
    _, request = await described(b'{"messages": [], "max_tokens": 99999999999999999999999}', prompts=FakePrompts())
    assert request.max_answer_tokens is None


async def test_every_answer_to_every_prompt_is_counted() -> None:
    """With the tokens of all prompts together, as far as they could be tokenised."""
    body = {"prompt": ["one " * 100, "two " * 100], "n": 3}
    for tokenised, expected in ((70, 70), (None, 100)):  # by its bytes it would be 200: twice what the model takes
        prompts = FakePrompts(Unreadable.SEVERAL_PROMPTS, num_prompt_tokens=tokenised)
        _, request = await described(body, prompts=prompts)
        assert (request.num_prompts, request.num_choices, request.num_prompt_tokens) == (2, 3, expected)
    _, request = await described({"messages": [], "n": 3}, prompts=FakePrompts())
    assert (request.num_sequences, request.num_prompt_tokens) == (3, 10)


@pytest.mark.parametrize("prompts", [FakePrompts(), None])
async def test_more_sequences_than_a_replica_takes_are_no_load(prompts: FakePrompts | None) -> None:
    """It refuses them at once; before it does, no request is routed around them."""
    for body, num_sequences in (({"n": 256}, 256), ({"n": 257}, 1), ({"prompt": ["x"] * 256, "n": "3"}, 1)):
        reason, request = await described(body, prompts=prompts)
        assert request.num_sequences == num_sequences
        assert (reason is Unreadable.REJECTED) == (num_sequences == 1)


@pytest.mark.parametrize(
    "n", [b"0", b"-7", b"true", b'"x"', b"[1]", b"{}", b"1e400", b"99999999999999999999999", b"1.5"]
)
async def test_a_wrong_number_of_answers_breaks_nothing(n: bytes) -> None:
    """And is no load, as vLLM refuses it, or takes it for one."""
    _, request = await described(b'{"messages": [], "n": ' + n + b"}", prompts=FakePrompts())
    assert request.num_sequences == 1


async def test_a_body_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the prompt, the session and the longest answer together."""
    parsed: list[bytes] = []

    def parse(body: bytes) -> dict[str, Any]:
        parsed.append(body)
        return parse_body(body)

    monkeypatch.setattr("serve_app.prompt.incoming.parse_body", parse)
    body = {"messages": [], "max_tokens": 7, "prompt_cache_key": "key"}
    _, request = await described(body, prompts=FakePrompts())
    assert (len(parsed), request.max_answer_tokens, request.session_key) == (1, 7, session_key("key"))

"""The adapter around the core, with stand-ins for Serve: no cluster, no vLLM."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from router import ReplicaId, RequestId, Reservation, TokenHash, hash_tokens, session_key
from serve_app.ingress.unready_router import UnreadyRouter
from serve_app.messages import batches
from serve_app.messages.delivery import DeliveryError
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import Finished, Prefilled, Receipt, Status
from serve_app.messages.response_ids import new_response_id
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.messages.snapshot import ReaderSnapshot, RouterSnapshot
from serve_app.parity.self_test import run_self_test
from serve_app.prompt.body import Prompt, Unreadable, UnreadableError
from serve_app.settings.cluster_secret import derived_key
from tests.serve_app.parity.self_test_engine import Engine, tokens_of

ID = SimpleNamespace(unique_id="router-1")
LLM = {
    "model_loading_config": {"model_id": "m"},
    "lora_config": {"dynamic_lora_loading_path": "s3://bucket/adapters"},
}
CONTEXT = SimpleNamespace(replica_id=ID, deployment="IngressRouter", app_name="app")


@dataclass(eq=False)
class RunningReplica:
    """A running replica as Serve lists it."""

    name: str
    rank: int
    block_size: int = 4
    routing_stats: dict[str, Any] = field(default_factory=dict)

    @property
    def replica_id(self) -> Any:
        """Its id."""
        return SimpleNamespace(to_full_id_str=lambda: self.name)

    @property
    def replica_metadata(self) -> dict[str, Any]:
        """What it published."""
        return ReplicaFacts(self.rank, self.block_size, kv_capacity_tokens=400).as_metadata()


class LongPoll:
    """Tells of three replicas at once."""

    def __init__(self, _actor: object, listeners: dict[object, Callable[[Any], None]], **_: object) -> None:
        for listener in listeners.values():
            listener(SimpleNamespace(running_replicas=[RunningReplica(f"replica-{rank}", rank) for rank in range(3)]))


class Words:
    """A word is a token."""

    max_model_len = 1000
    tokenizer = "fastokens"

    def snapshot(self) -> ReaderSnapshot:
        """As a router shows it."""
        return ReaderSnapshot(tokenizer=self.tokenizer)

    async def read(self, fields: dict[str, Any]) -> Prompt:
        """The prompt's words."""
        prompts = fields.get("prompt", "")
        if isinstance(prompts, list):
            num_prompt_tokens = sum(len(tokens_of({"prompt": each})) for each in prompts)
            raise UnreadableError(Unreadable.SEVERAL_PROMPTS, num_prompt_tokens=num_prompt_tokens)
        if not isinstance(prompts, str):
            raise UnreadableError(Unreadable.REJECTED)
        return Prompt(tokens_of(fields), cache_salt=fields.get("cache_salt", ""))


class Started:
    """A router as Serve makes it, and what it told the others."""

    def __init__(self) -> None:
        self.reservations: list[Reservation] = []
        self.router: Any = None

    async def start(self) -> None:
        """Serve awaits constructors."""
        from serve_app.ingress.deployment import IngressRouter

        self.router = IngressRouter.__new__(IngressRouter)
        await self.router.__init__(
            SimpleNamespace(deployment_id="LLM"),
            llm=LLM,
            routers={},
            engine="vllm",
            tokenizer="auto",
            engine_model={},
            max_sequences=256,
            access={},
        )
        await self.router._loading

    async def snapshot(self) -> RouterSnapshot:
        """The router's snapshot, as another process reads it."""
        return RouterSnapshot.from_plain(await self.router.snapshot())

    async def answer(self, body: object, **headers: str) -> Any:
        """The answer to HAProxy's question."""
        transport = httpx.ASGITransport(app=self.router.__serve_build_asgi_app__())
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            return (await client.post("/internal/route", json=body, headers=headers)).json()

    async def ask(self, body: object, **headers: str) -> RoutingNote:
        """The same; what the replica will be told."""
        answer = await self.answer(body, **headers)
        note = RoutingNote.decode(answer["request_headers"][NOTE_HEADER], derived_key(NOTE_HEADER))
        assert note.replica_id == answer["replica_id"]
        await self.router._reservations.flush()
        return note

    async def hear(self, replica: str, *receipts: Receipt) -> None:
        """A replica's receipts, and a look at what came."""
        await self.router.on_receipts(batches.encode(replica, 1, receipts))
        await self.router._upkeep.judge_new()

    def verdicts(self) -> list[str]:
        """The verdicts, by rank."""
        return [self.router._records.verdicts[ReplicaId(f"replica-{rank}")].value for rank in range(3)]

    def find(self, *block_sizes: int) -> None:
        """Serve tells of replicas with these block sizes."""
        replicas = [RunningReplica(f"replica-{rank}", rank, size) for rank, size in enumerate(block_sizes)]
        self.router._on_replicas(replicas)

    async def send(self, batch: Sequence[Reservation]) -> None:
        """Take what goes to the other routers."""
        self.reservations += batch


@pytest.fixture
async def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """A router that can tokenise."""
    from serve_app.control import ray_long_poll
    from serve_app.ingress import deployment as ingress_router

    async def load(router: Any, *_: object) -> None:
        router._reader.prompts = Words()

    async def ask_no_one(*_: object, **__: object) -> list[Any]:
        raise DeliveryError("no other router is there")

    result = Started()
    monkeypatch.setattr(ingress_router.serve, "get_replica_context", lambda: CONTEXT)
    monkeypatch.setattr(ingress_router.serve, "get_deployment_handle", lambda *_, **__: None)
    monkeypatch.setattr(ray_long_poll.ray, "get_actor", lambda *_, **__: None)
    monkeypatch.setattr(ray_long_poll, "LongPollClient", LongPoll)
    monkeypatch.setattr(ingress_router, "RouterChannel", lambda *_, **__: None)
    monkeypatch.setattr(ingress_router, "send_to_routers", lambda *_, **__: result.send)
    monkeypatch.setattr(ingress_router, "ask_all", ask_no_one)
    monkeypatch.setattr(ingress_router.IngressRouter, "_load_prompts", load)
    await result.start()
    return result


async def test_a_request_is_placed_and_booked(started: Started) -> None:
    """Its key and its session reach the core and the other routers; the session's name stays here."""
    note = await started.ask({"prompt": "a b c d e f g h i"}, **{"x-session-id": "ann"})
    assert (note.prompt_tokens, note.believed_cached_tokens) == (9, 0)
    (reservation,) = started.reservations
    assert reservation.request.request_id == note.request_id
    assert len(reservation.request.block_hashes) == 2
    assert reservation.request.session_key == session_key("ann")
    assert "ann" not in repr(reservation)


async def test_every_sequence_is_booked_and_noted(started: Started) -> None:
    """Here, at the other routers, and at the replica."""
    note = await started.ask({"prompt": ["a b c", "d e"], "n": 3})
    assert (note.reason, note.num_sequences) == ("several_prompts", 6)
    assert (note.prompt_tokens, note.believed_cached_tokens) == (5, 0)
    (reservation,) = started.reservations
    assert (reservation.request.num_prompts, reservation.request.num_choices) == (2, 3)
    replica = (await started.snapshot()).replicas[note.replica_id]
    assert (replica.waiting, replica.pending_tokens) == (6, 5)
    await started.hear(note.replica_id, *(Prefilled(note.request_id, tokens, 0) for tokens in (3, 3, 3, 2, 2, 2)))
    replica = (await started.snapshot()).replicas[note.replica_id]
    assert (replica.waiting, replica.running, replica.pending_tokens) == (0, 6, 0)


async def test_a_router_without_replicas_has_a_snapshot(started: Started) -> None:
    """For the doctor, which says what is lacking."""
    started.router._router = UnreadyRouter()
    snapshot = await started.snapshot()
    assert (snapshot.block_size, snapshot.remembered, snapshot.replicas) == (None, 0, {})


async def test_more_sequences_than_a_replica_takes_are_rejected(started: Started) -> None:
    """The replica says so to the client; until then, it is one request that goes by load."""
    for body in ({"prompt": "a", "n": 10_000}, {"prompt": ["a"] * 1000}, {"prompt": "a", "n": "257"}):
        note = await started.ask(body)
        assert (note.reason, note.num_sequences) == ("rejected", 1)
    assert {each.request.num_sequences for each in started.reservations} == {1}


async def test_a_session_stays_where_it_is(started: Started) -> None:
    """By a policy that goes by nothing else: keyed or not, named in the header or the body."""
    started.router.reconfigure({"policy": "session_hash"})
    header = {"x-session-id": "ann"}
    notes = [
        await started.ask({"prompt": "a b c d e f g h i"}, **header),
        await started.ask({"prompt": "another"}, **header),
        await started.ask({"prompt": 7, "prompt_cache_key": "ann"}, **header),
        await started.ask(["no object"], **header),
        await started.ask({"prompt": "cut off"}, **header, **{"x-body-truncated": "7/9"}),
        await started.ask({"prompt": "another", "prompt_cache_key": "ann"}),
    ]
    assert len({note.replica_id for note in notes}) == 1
    others = [await started.ask({"prompt": "x"}, **{"x-session-id": str(number)}) for number in range(20)]
    assert len({note.replica_id for note in others}) == 3


async def test_shadows_come_and_go_with_the_settings(started: Started) -> None:
    """None at first, then two, whose sums the snapshot has, then one that starts again."""
    assert (await started.snapshot()).shadows == {}
    started.router.reconfigure({"shadow_policies": ["round_robin", "prefix_affinity"]})
    for _ in range(6):
        note = await started.ask({"prompt": "a b c d e"})
        await started.hear(note.replica_id, Prefilled(note.request_id, 5, 4), Finished(note.request_id))
    shadows = (await started.snapshot()).shadows
    assert list(shadows) == ["round_robin", "prefix_affinity"]
    assert {shadow.decisions for shadow in shadows.values()} == {6}
    assert shadows["round_robin"].agreements < 6
    started.router.reconfigure({"shadow_policies": ["round_robin"]})
    assert (await started.snapshot()).shadows["round_robin"].decisions == 0


async def test_a_shadow_that_fails_costs_no_request_anything(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted instead."""
    from router.policies.baselines.round_robin import RoundRobin

    monkeypatch.setattr(RoundRobin, "choose", lambda *_: 1 / 0)
    started.router.reconfigure({"shadow_policies": ["round_robin"]})
    notes = await asyncio.gather(*(started.ask({"prompt": "a b c d e"}) for _ in range(3)))
    assert {note.reason for note in notes} <= {"ring", "prefix", "spill"}
    assert (await started.snapshot()).shadows["round_robin"].failures == 3


def doubted(started: Started) -> set[str]:
    """The replicas whose estimates the core does not trust."""
    return set(started.router._router.core.cluster.untrusted)


async def test_a_replica_is_doubted_until_its_self_test_was_judged(started: Started) -> None:
    """And again when its self-test says so, or its requests do."""
    assert doubted(started) == {"replica-0", "replica-1", "replica-2"}
    engine = Engine()
    engine.block_size = 4
    report = await run_self_test(engine.ask, model="m", adapter="", block_size=4, period_s=60, is_crowded=lambda: False)
    await started.hear("replica-0", Status({}, True, 0, 0, {}, 0, 0, None, self_test=report))  # noqa: FBT003
    assert doubted(started) == {"replica-1", "replica-2"}
    assert started.verdicts() == ["ok", "unknown", "unknown"]
    replicas = (await started.snapshot()).replicas
    assert [replica.parity for replica in replicas.values()] == ["ok", "unknown", "unknown"]


async def test_sampled_requests_are_compared_by_their_receipts(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three differ in a row; those of other routers, and of prompts without a key, are not looked at."""
    from serve_app.ingress import ready_router

    monkeypatch.setattr(ready_router, "new_request_id", lambda: RequestId(f"{next(numbers)}-0"))
    numbers = iter(range(100))
    right, wrong = hash_tokens(tokens_of({"prompt": "a b c d e f g h i"})), TokenHash(7)
    for hashes, expected in (([right, wrong, wrong], "unknown"), ([wrong], "template")):
        for token_hash in hashes:
            note = await started.ask({"prompt": "a b c d e f g h i"})
            receipt = Prefilled(note.request_id, 9, 0, token_hash)
            await started.hear("replica-1", receipt, Prefilled(RequestId("other-0"), 9, 0, wrong), receipt)
        assert started.verdicts() == ["unknown", expected, "unknown"]
    note = await started.ask({"prompt": 7})
    await started.hear("replica-2", *[Prefilled(note.request_id, 9, 0, wrong)] * 3)
    assert started.verdicts()[2] == "unknown"


async def test_prompts_are_keyed_by_the_block_size_of_most_replicas(started: Started) -> None:
    """The others are named. Where as many have another one, it stays as it is; at first, the lowest rank decides."""
    for sizes, expected, odd in (
        ((8, 4, 4), 4, [0]),
        ((8, 8, 4), 8, [2]),
        ((8, 4), 8, [1]),
        ((4, 8), 8, [0]),
    ):
        started.find(*sizes)
        assert started.router._router.core.cluster.block_size == expected
        assert [rank for rank, verdict in started.router._records.verdicts.by_rank() if verdict == "block_size"] == odd
        assert doubted(started) >= {f"replica-{rank}" for rank in odd}
    started.router._router = UnreadyRouter()
    started.find(4, 8)
    assert started.router._router.core.cluster.block_size == 4


async def test_replicas_that_are_gone_leave_nothing(started: Started) -> None:
    """No replica, no verdict; the block size is remembered."""
    started.find()
    assert (started.router._records.verdicts.by_rank(), doubted(started)) == ([], set())
    assert (await started.ask({"prompt": "a"})).reason == "no_replicas"


async def test_a_stored_response_is_continued_where_it_is(started: Started) -> None:
    """By every router, for the id says where; one that says nothing is continued where there is least to do."""
    for _ in range(3):
        for name in ("replica-0", "replica-1", "replica-2"):
            note = await started.ask({"prompt": 7, "previous_response_id": new_response_id(name)})
            assert (note.replica_id, note.reason) == (name, "stored")
    note = await started.ask({"prompt": 7, "previous_response_id": new_response_id("gone")})
    assert note.reason == "rejected"


@pytest.mark.parametrize(
    ("model", "expected"), [("m", None), (None, None), ("other", None), ("m:a", "m:a"), ('m:"}', None), ("m:..", None)]
)
async def test_a_replica_is_told_which_adapter_to_load(
    started: Started, model: str | None, expected: str | None
) -> None:
    """By Ray's header, in which no client may write what HAProxy or a file system would mistake."""
    headers = (await started.answer({"prompt": "a b c d e", "model": model}))["request_headers"]
    assert headers.pop("serve_multiplexed_model_id", None) == expected
    assert list(headers) == [NOTE_HEADER]

"""A replica's parts put together, around stand-ins for vLLM: no engine, no Serve."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from router import BlockHash, ReplicaId
from serve_app.messages.delivery import Delivery
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import Status, Warmed
from serve_app.settings.schema import ReplicaSettings
from tests.serve_app.replica.test_vllm_outputs import Processor

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own
BLOCK_SIZE = 4
MODEL = "m"


class EngineClient:
    """As much of vLLM's AsyncLLM as a replica touches."""

    def __init__(self) -> None:
        self.output_processor = Processor()
        self.engine_core = SimpleNamespace(resources=SimpleNamespace(engine_manager=SimpleNamespace(processes=())))
        self.num_resets = 0
        self.num_prompts = 0

    async def is_paused(self) -> bool:
        """What a pulse asks."""
        return False

    async def reset_prefix_cache(self) -> bool:
        """It is emptied."""
        self.num_resets += 1
        return True

    def serve(self, token_ids: Sequence[int]) -> None:
        """A prompt, by way of the output processor."""
        self.num_prompts += 1
        name, processor = f"p{self.num_prompts}", self.output_processor
        params = SimpleNamespace(skip_reading_prefix_cache=False)
        request = SimpleNamespace(
            request_id=name,
            prompt_token_ids=list(token_ids),
            cache_salt=None,
            lora_request=None,
            mm_features=None,
            sampling_params=params,
            pooling_params=None,
        )
        stats = SimpleNamespace(
            num_prompt_tokens=len(token_ids), num_local_cached_tokens=0, num_external_cached_tokens=0
        )
        processor.add_request(request, None)
        processor.process_outputs([SimpleNamespace(request_id=name, prefill_stats=stats)], 0.0, None)


def make_app(engine: EngineClient) -> FastAPI:
    """As much of vLLM's app as a replica asks itself."""
    app = FastAPI()
    renderer = SimpleNamespace(_tokenize_prompt_async=None)
    app.state.online_renderer = SimpleNamespace(renderer=renderer)

    @app.post("/v1/completions")
    async def complete(body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        engine.serve(range(len(prompt.split())) if isinstance(prompt, str) else prompt)
        return {}

    @app.post("/v1/chat/completions")
    async def chat() -> dict[str, Any]:
        engine.serve(range(9))
        return {}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"data": [{"id": MODEL}]}

    return app


class Neighbours:
    """Other replicas with one prompt of two blocks, and a router that wants it to be warm."""

    token_ids = range(2 * BLOCK_SIZE)

    async def prefixes_for(self, _rank: int) -> list[BlockHash]:
        """The prompt's."""
        return [BlockHash(7)]

    async def fetch(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """Its token ids."""
        from array import array

        return {block_hash: array("I", self.token_ids).tobytes() for block_hash in block_hashes}

    async def places_of(self, _prompts: Sequence[Sequence[BlockHash]]) -> list[ReplicaId]:
        """No replica leaves here."""
        raise AssertionError

    async def give(self, _replica_to_prompts: Mapping[ReplicaId, Sequence[Any]]) -> None:
        """No replica leaves here."""
        raise AssertionError


class Made:
    """A replica, what it told the routers, and a way for them to answer."""

    def __init__(self, **settings: Any) -> None:
        from serve_app.replica.serving_replica import ServingReplica, Surroundings

        self.told: list[Any] = []
        self._has_status = asyncio.Event()
        self.on_answers: Callable[[list[Any]], None] = lambda _: None
        self.engine = EngineClient()
        self.app = make_app(self.engine)
        neighbours: Any = Neighbours()
        self.replica = ServingReplica(
            Surroundings(
                replica_id=ReplicaId("r0"),
                model=MODEL,
                api_key="",
                facts=lambda: ReplicaFacts(0, BLOCK_SIZE, kv_capacity_tokens=400),
                neighbours=neighbours,
                make_delivery=self._make_delivery,
                log=None,
            ),
            app=self.app,
            engine_client=self.engine,
            settings=ReplicaSettings(heartbeat_s=0.01, **settings),
            tokenizer="huggingface",
            kv_endpoints=None,
        )

    def _make_delivery(self, on_answers: Callable[[list[Any]], None]) -> Delivery[Any]:
        self.on_answers = on_answers

        async def send(batch: Sequence[Any]) -> None:
            self.told += batch
            if any(isinstance(receipt, Status) for receipt in batch):
                self._has_status.set()

        return Delivery(send, interval_s=0, max_undelivered=100)

    async def last_status(self) -> Status:
        """The next heartbeat."""
        self._has_status.clear()
        await asyncio.wait_for(self._has_status.wait(), 10)
        return next(receipt for receipt in reversed(self.told) if isinstance(receipt, Status))

    async def stop(self) -> None:
        """Its tasks have no end."""
        for task in self.replica._tasks:
            task.cancel()
        await asyncio.gather(*self.replica._tasks, return_exceptions=True)


async def test_a_replica_gets_ready_and_tells_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It warms up, forgets that, tests itself, warms what it will be asked for, and then serves with our middleware."""
    monkeypatch.setattr("serve_app.replica.heartbeat.end_unless_moving", lambda _: None)
    made = Made(warm_joining=True)
    assert (await made.last_status()).self_test is None, "the heart beats from the start"
    await made.replica.get_ready(made.engine.reset_prefix_cache)
    status = await made.last_status()
    assert made.engine.num_resets == 1
    assert status.self_test is not None
    assert (status.tokenizer, status.is_serving) == ("huggingface: set so", True)
    made.on_answers([False])
    assert not any(isinstance(receipt, Warmed) for receipt in made.told)
    made.on_answers([True, None])
    await made.last_status()
    (warmed,) = (receipt for receipt in made.told if isinstance(receipt, Warmed))
    assert len(warmed.block_hashes) == 2
    assert made.replica.share_prompts(list(warmed.block_hashes)).keys() == set(warmed.block_hashes)
    made.replica.add_middleware(engine="simulated")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(made.app), base_url="http://replica") as client:
        answer = await client.post("/v1/completions", json={"prompt": "a b"})
    assert answer.headers["x-warmroute-engine"] == "simulated"
    await made.engine.reset_prefix_cache()
    assert made.replica.share_prompts(list(warmed.block_hashes)) == {}, "the cache was emptied on purpose"
    await made.stop()


async def test_a_replica_that_keeps_no_prompts_shares_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it take any over; the routers' answers, a wish for a snapshot too, change nothing."""
    monkeypatch.setattr("serve_app.replica.heartbeat.end_unless_moving", lambda _: None)
    made = Made(warm_joining=False, hand_over=False)
    await made.replica.get_ready(made.engine.reset_prefix_cache)
    made.on_answers([True, "snapshot"])
    made.replica.take_over({ReplicaId("r0"): []})
    assert made.replica.share_prompts([BlockHash(7)]) == {}
    await made.stop()

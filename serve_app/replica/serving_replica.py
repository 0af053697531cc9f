"""A replica from the moment its engine runs: what it counts, what it tells the routers, and what it gives to others."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI

from router import BlockHash, ReplicaId
from serve_app.messages.delivery import Delivery
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import BatchAnswer, Finished, Receipt
from serve_app.messages.routing_note import NOTE_HEADER
from serve_app.parity.self_test import run_self_test
from serve_app.prompt import vllm_hooks
from serve_app.prompt.vllm_tokenizing import Tokenizing
from serve_app.replica.admission import Admission
from serve_app.replica.allowed_models import AllowedModels
from serve_app.replica.authentication import Authentication
from serve_app.replica.brief_errors import BriefErrors
from serve_app.replica.departure import Departure
from serve_app.replica.explain import ExplainAndReport
from serve_app.replica.heartbeat import Heartbeat
from serve_app.replica.kv_events.endpoints import KvEndpoints
from serve_app.replica.kv_events.engine_blocks import EngineBlocks
from serve_app.replica.kv_events.feed import KvFeed
from serve_app.replica.kv_events.merge import ReplicaMessage
from serve_app.replica.own_prompts import OwnPrompts
from serve_app.replica.ownership import keep_tenants_apart
from serve_app.replica.request_log import RequestLog
from serve_app.replica.running_requests import RunningRequests
from serve_app.replica.vllm_outputs import EngineWatch
from serve_app.replica.warmth.join import WarmUp
from serve_app.replica.warmth.leave import Given, HandOver
from serve_app.replica.warmth.neighbours import ServeNeighbours
from serve_app.replica.warmth.recent_prompts import RecentPrompts
from serve_app.settings.cluster_secret import derived_key
from serve_app.settings.schema import EngineName, ReplicaSettings, TokenizerName
from serve_app.settings.tenant_names import TenantNames
from serve_app.tenants.live_directory import LiveDirectory

logger = logging.getLogger("ray.serve")

OnAnswers = Callable[[list[Any]], None]
MakeDelivery = Callable[[OnAnswers], Delivery[ReplicaMessage]]
"""Makes the delivery to all routers, whose answers it hands over as JSON values."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a replica has from Ray Serve, in addition to its engine."""

    replica_id: ReplicaId
    model: str
    """The model's name for clients."""
    api_key: str
    """The key that vLLM's API demands; empty for none."""
    facts: Callable[[], ReplicaFacts]
    """Tells what the replica publishes of itself now: its rank may change."""
    neighbours: ServeNeighbours
    make_delivery: MakeDelivery
    log: RequestLog | None
    """The log of requests; None where they are not logged (`replicas.log_requests`)."""


class ServingReplica:
    """Complete when made. Used on the replica's event loop only.

    Args:
        surroundings: what Ray Serve has made for it.
        app: vLLM's app, before any middleware of ours is added.
        engine_client: vLLM's AsyncLLM.
        settings: the setting `replicas`.
        tokenizer: the setting `tokenizer`.
        kv_endpoints: where the engine publishes its KV events; None where they are off (`replicas.kv_events`).
        keys: who may ask; None where anyone may.

    """

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        app: FastAPI,
        engine_client: Any,  # noqa: ANN401  vLLM's
        settings: ReplicaSettings,
        tokenizer: TokenizerName,
        kv_endpoints: KvEndpoints | None,
        keys: LiveDirectory | None = None,
    ) -> None:
        self._replica_id = surroundings.replica_id
        self._model = model = surroundings.model
        self._facts = surroundings.facts
        self._log = surroundings.log
        self._app = app
        self._engine_client = engine_client
        self._settings = settings
        self._keys = keys
        facts, neighbours = surroundings.facts(), surroundings.neighbours
        capacity_tokens, block_size = facts.kv_capacity_tokens, facts.block_size
        self._delivery = surroundings.make_delivery(self._on_answers)
        self.running = RunningRequests(self._report, clock=time.monotonic)
        self._recent = RecentPrompts(
            model=model, block_size=block_size, max_tokens=capacity_tokens, clock=time.monotonic
        )
        keeps_prompts = settings.warm_joining or settings.hand_over
        self._watch = EngineWatch(self.running, self._recent if keeps_prompts else None)
        self._own = OwnPrompts(app, api_key=surroundings.api_key, model=model, watch=self._watch)
        self._joining = self._make_warm_up(neighbours) if settings.warm_joining else None
        self._leaving = self._make_hand_over(neighbours, capacity_tokens) if settings.hand_over else None
        self._subscription = None if kv_endpoints is None else kv_endpoints.subscribe()
        blocks = EngineBlocks(model=model, block_size=block_size)
        self._feed = None if kv_endpoints is None else KvFeed(blocks, partial(self._delivery.post, can_wait=True))
        self._tokenizing = Tokenizing(app.state.online_renderer.renderer, tokenizer)
        self._heartbeat = Heartbeat(
            self.running,
            self._watch,
            ask=engine_client.is_paused,
            feed=self._feed,
            tokenizer=lambda: self._tokenizing.state,
            settings=settings,
        )
        self._tasks: list[asyncio.Task[None]] = []
        """Tasks without end, kept so that they are not collected."""
        self._start()

    def _make_warm_up(self, neighbours: ServeNeighbours) -> WarmUp:
        return WarmUp(self._recent, neighbours, prefill=self._own.prefill, report=self._report)

    def _make_hand_over(self, neighbours: ServeNeighbours, capacity_tokens: int) -> HandOver:
        return HandOver(
            self._replica_id,
            self._recent,
            neighbours,
            prefill=self._own.prefill,
            report=self._report,
            is_busy=lambda: self.running.num_waiting > 0,
            max_tokens=capacity_tokens,
            clock=time.monotonic,
        )

    def _start(self) -> None:
        """Listen to the engine, and begin the heartbeat."""
        self._watch.attach(self._engine_client.output_processor)
        self._watch.watch_processes(self._engine_client.engine_core.resources.engine_manager)
        vllm_hooks.after_reset(self._engine_client, self._on_reset)
        if self._feed is not None and self._subscription is not None:
            self._keep(self._feed.follow(self._subscription.batches()))
        self._keep(self._heartbeat.beat())
        if self._keys is not None:
            keep_tenants_apart(self._app, self._engine_client)
            self._keep(self._keys.follow())

    async def get_ready(self, reset_prefix_cache: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Warm up the engine, prove the keys' parity, and compute what this replica will be asked for."""
        await self._own.warm_up()
        await reset_prefix_cache()
        self._keep(self._heartbeat.feel_pulse())
        await self._run_self_test()
        self._keep(self._repeat_self_test())
        if self._joining is not None:
            await self._joining.join(self._facts().rank)

    def add_middleware(self, *, engine: EngineName) -> None:
        """Put our middleware around vLLM's app, the last one outermost."""
        app = self._app
        app.middleware_stack = None  # vLLM has built it already; Starlette builds it again
        if self._keys is not None:
            app.add_middleware(AllowedModels, model=self._model)
        app.add_middleware(BriefErrors)
        app.add_middleware(
            Admission,
            running=self.running,
            max_waiting_requests=self._settings.max_waiting_requests,
            max_waiting_tokens=self._settings.max_waiting_tokens,
            max_body_bytes=round(self._settings.max_body_mib * 2**20),
        )
        app.add_middleware(
            ExplainAndReport,
            replica_id=self._replica_id,
            running=self.running,
            explain_headers=self._settings.explain_headers,
            engine=engine,
            log=self._log,
            tenants=TenantNames(self._settings.tenants, header=self._settings.tenant_header),
            note_key=derived_key(NOTE_HEADER),
        )
        app.add_middleware(Departure)
        if self._keys is not None:
            app.add_middleware(Authentication, keys=self._keys)

    def share_prompts(self, block_hashes: list[BlockHash]) -> dict[BlockHash, bytes]:
        """Token ids of the prefixes that end with these blocks, as far as they are here."""
        return {} if self._joining is None else self._joining.share(block_hashes)

    def take_over(self, replica_to_prompts: Mapping[ReplicaId, list[Given]]) -> None:
        """Take the prompts that a leaving replica gives to this one."""
        if self._leaving is not None:
            self._leaving.take_over(replica_to_prompts)

    def _report(self, receipt: Receipt) -> None:
        if self._log is not None:
            self._log.on_receipt(receipt)
        if self._feed is not None and self._subscription is not None and isinstance(receipt, Finished):
            # The routers must hear first what the engine stored of it: of a finished request they keep nothing else.
            for events in self._subscription.take():
                self._feed.read(events)
        self._delivery.post(receipt)

    def _on_answers(self, values: list[Any]) -> None:
        """The routers' JSON in answer to the last receipts."""
        answers = [BatchAnswer(value) for value in values]
        if self._joining is not None:
            self._joining.on_membership(answers)
        if self._leaving is not None:
            self._leaving.on_membership(answers)
        if self._feed is not None and BatchAnswer.WANTS_SNAPSHOT in answers:
            self._feed.send_snapshot()

    def _on_reset(self) -> None:
        """The engine's cache was emptied: the routers hear it at once, and not with the next receipts."""
        self._recent.clear()
        if self._feed is not None:
            self._feed.clear()
            self.running.report_status()

    async def _repeat_self_test(self) -> None:
        while self.running.is_serving:
            await asyncio.sleep(self._settings.canary_period_s)
            await self._run_self_test()

    async def _run_self_test(self) -> None:
        """Serve the self-test's probes; the next heartbeat tells the routers. A failure costs only the report."""
        try:
            self.running.self_test = await run_self_test(
                self._own.probe,
                model=self._model,
                adapter=await self._own.an_adapter(),
                block_size=self._facts().block_size,
                period_s=self._settings.canary_period_s,
                is_crowded=lambda: self.running.is_crowded,
            )
        except Exception as error:  # noqa: BLE001  whatever it is, clients are served all the same
            logger.warning("The self-test failed: %s", type(error).__name__)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

"""The replica: Ray's LLM server with vLLM's own HTTP API, explaining each response and sending receipts.

Adapter: private names of Ray and vLLM are listed in tests/serve_app/test_private_names.py.
"""

import asyncio
import contextlib
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import ray
from fastapi import FastAPI
from ray import serve
from ray.llm._internal.serve.core.configs.llm_config import LLMConfig
from ray.llm._internal.serve.core.server.llm_server import LLMServer
from starlette.types import ASGIApp, Receive, Scope, Send

from router import BlockHash, ReplicaId
from serve_app.control.ray_router_channel import RouterChannel, send_to_routers
from serve_app.messages.delivery import RECEIPTS_PATH, Delivery
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import BatchAnswer, Finished, ProbeResult, Receipt, Report
from serve_app.messages.response_ids import new_response_id
from serve_app.messages.routing_note import NOTE_HEADER
from serve_app.parity.self_test import Probe, run_self_test
from serve_app.prompt.validation import bound_validation
from serve_app.prompt.vllm_client_faults import blame_clients
from serve_app.prompt.vllm_tokenizing import Tokenizing
from serve_app.replica.admission import Admission
from serve_app.replica.brief_errors import BriefErrors
from serve_app.replica.departure import Departure
from serve_app.replica.engine_pulse import EnginePulse
from serve_app.replica.explain import ExplainAndReport
from serve_app.replica.kv_events.engine_blocks import EngineBlocks
from serve_app.replica.kv_events.feed import KvFeed
from serve_app.replica.kv_events.merge import Told, encode_with_receipts
from serve_app.replica.kv_events.subscription import KvSubscription
from serve_app.replica.kv_events.wire import TOPIC
from serve_app.replica.log_file import LogFile, serve_log
from serve_app.replica.request_log import RequestLog
from serve_app.replica.running_requests import RunningRequests
from serve_app.replica.standstill import end_unless_moving
from serve_app.replica.vllm_host_tier import known_host_capacity_tokens
from serve_app.replica.vllm_outputs import EngineWatch
from serve_app.replica.warmth.join import WarmUp
from serve_app.replica.warmth.leave import Given, HandOver
from serve_app.replica.warmth.neighbours import ServePeers
from serve_app.replica.warmth.recent_prompts import RecentPrompts
from serve_app.settings.cluster_secret import derived_key
from serve_app.settings.schema import EngineName, ReplicaSettings, RouterSettings, TokenizerName
from serve_app.settings.tenants import Tenants
from serve_app.settings.vllm_options import check_media_domains

logger = logging.getLogger("ray.serve")

STREAMS_TOLD_S = 10.0
"""After the engine's death, how long vLLM may take to notice."""
LAST_WORDS_S = 1.0
"""Then, until the replica's own."""
WARM_UP_TIMEOUT_S = 600
PROBE_TIMEOUT_S = 60.0
"""For each probe of the self-test, which waits its turn at the engine like any prompt."""
WARM_UP_PROMPT_CHARS = (16, 512, 4096)


class LLMReplica(LLMServer):  # type: ignore[misc]  # Ray ships no types for it
    """One engine, its HTTP API, and its receipts."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self,
        llm_config: LLMConfig,
        *,
        router_deployment: str,
        routers: dict[str, Any],
        replicas: dict[str, Any],
        engine: EngineName,
        tokenizer: TokenizerName,
    ) -> None:
        self._engine_name = engine
        self._tokenizer: TokenizerName = tokenizer
        self._tokenizing: Tokenizing | None = None
        self._router_deployment = router_deployment
        self._routers = RouterSettings.model_validate(routers)
        self._replicas = ReplicaSettings.model_validate(replicas)
        self._feed: KvFeed | None = None
        self._note_key = derived_key(NOTE_HEADER)
        self._pulse: EnginePulse | None = None
        if self._replicas.kv_events:
            self._kv_folder = tempfile.TemporaryDirectory(prefix="warmroute-kv-")  # nobody else may read prompts there
            # Ray has read the engine's arguments already, when it built the application.
            llm_config.update_engine_kwargs(kv_events_config=self._kv_events_config())
        await super().__init__(llm_config, engine_cls=None if engine == "vllm" else _one_process_engine())

    async def start(self) -> None:
        """Start the engine and listen to its outputs."""
        self._log = RequestLog(_log_file().post, clock=time.monotonic) if self._replicas.log_requests else None
        self._warmth: WarmUp | None = None
        self._hand_over: HandOver | None = None
        self._report = self._make_report()
        self._running = RunningRequests(self._report, clock=time.monotonic)
        model = Path(self._llm_config.get_engine_config().actual_hf_model_id)
        if model.is_dir():  # noqa: ASYNC240  once, before anything is served
            # Nothing to download: spare each replica a worker process that imports vLLM to find that out.
            self._llm_config.get_or_create_callback().ctx.run_init_node = False
        await super().start()
        engine_client = self.engine._engine_client  # noqa: SLF001
        if engine_client.vllm_config.model_config.is_multimodal_model:
            check_media_domains(self._llm_config.model_id, self._llm_config.engine_kwargs)
        keeps = self._replicas.warm_joining or self._replicas.hand_over
        self._recent = self._make_recent() if keeps else None
        if self._recent is not None:
            self._warmth = self._make_warmth(self._recent) if self._replicas.warm_joining else None
            self._hand_over = self._make_hand_over(self._recent) if self._replicas.hand_over else None
            _after_reset(engine_client, self._recent.clear)
        self._watch = EngineWatch(self._running, self._recent)
        self._watch.attach(engine_client.output_processor)
        self._watch.watch_processes(engine_client.engine_core.resources.engine_manager)
        if self._replicas.kv_events:
            self._subscription, self._feed = self._make_subscription(), self._make_feed()
            self._following = asyncio.create_task(self._feed.follow(self._subscription.batches()))
            _after_reset(engine_client, self._tell_of_reset)
        self._heartbeat = asyncio.create_task(self._beat())

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """vLLM's app, warm, with our middleware outermost. Serve reports the replica ready after this."""
        app: FastAPI = await super().__serve_build_asgi_app__()
        engine_client = self.engine._engine_client  # noqa: SLF001
        bound_validation(
            app,
            max_objects=engine_client.vllm_config.model_config.max_model_len,
            max_sequences=self._replicas.max_waiting_requests,
        )
        blame_clients(app, engine_client)
        _name_responses(getattr(app.state, "openai_serving_responses", None))
        self._tokenizing = Tokenizing(app.state.online_renderer.renderer, self._tokenizer)
        async with self._own_client(app) as client:
            await self._warm_up(client)
        self._own = self._own_client(_as_built(app))
        self._pulse = self._make_pulse()  # not before: an engine may compile for minutes while it is warmed up
        await self._run_self_test()
        self._repeating = asyncio.create_task(self._repeat_self_test())
        if self._warmth is not None:
            await self._warmth.join(self._facts().rank)
        app.middleware_stack = None  # vLLM has built it already; Starlette builds it anew
        app.add_middleware(BriefErrors)
        app.add_middleware(
            Admission,
            running=self._running,
            max_waiting_requests=self._replicas.max_waiting_requests,
            max_waiting_tokens=self._replicas.max_waiting_tokens,
            max_body_bytes=round(self._replicas.max_body_mib * 2**20),
        )
        app.add_middleware(
            ExplainAndReport,
            replica_id=_replica_id(),
            running=self._running,
            explain_headers=self._replicas.explain_headers,
            engine=self._engine_name,
            log=self._log,
            tenants=Tenants(self._replicas.tenants, header=self._replicas.tenant_header),
            note_key=self._note_key,
        )
        app.add_middleware(Departure)
        return app

    async def share_prompts(self, block_hashes: list[BlockHash]) -> dict[BlockHash, bytes]:
        """For a replica that joins: token ids of the prefixes that end with these blocks, as far as they are here."""
        return {} if self._warmth is None else self._warmth.share(block_hashes)

    async def take_over(self, replica_to_prompts: dict[ReplicaId, list[Given]]) -> None:
        """From a replica that leaves: prompts, by who shall have them."""
        if self._hand_over is not None:
            self._hand_over.take_over(replica_to_prompts)

    def record_replica_metadata(self) -> dict[str, Any]:
        """Serve's hook, called once when ready: what routers must know from the first request on."""
        return self._facts().as_metadata()

    async def record_routing_stats(self) -> dict[str, Any]:
        """Serve's hook, polled: the rank may change when replicas leave."""
        return {**await super().record_routing_stats(), **self._facts().as_metadata()}

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve's hook, polled where the deployment has an `autoscaling_config`, and carried to its policy."""
        return self._running.work.as_metrics()

    def _make_report(self) -> Report:
        self._delivery = self._make_delivery()
        post, log = self._delivery.post, self._log

        def report(receipt: Receipt) -> None:
            if log is not None:
                log.on_receipt(receipt)
            if self._feed is not None and isinstance(receipt, Finished):
                # What the engine stored of it must be told before: of a request that is over, nothing else is held.
                for events in self._subscription.take():
                    self._feed.read(events)
            post(receipt)

        return report

    def _make_delivery(self) -> Delivery[Told]:
        return Delivery(
            send_to_routers(
                RouterChannel(self._router_deployment, serve.get_replica_context().app_name),
                RECEIPTS_PATH,
                sender=_replica_id(),
                timeout_s=self._routers.delivery_timeout_s,
                on_answers=self._on_answers,
                encode=encode_with_receipts,
            ),
            interval_s=self._routers.delivery_interval_s,
            max_undelivered=self._routers.max_undelivered,
        )

    def _make_pulse(self) -> EnginePulse:
        """By a question that vLLM's engine answers from its loop, and for which it needs nothing else."""
        max_missed = math.ceil(self._replicas.hang_s / self._replicas.heartbeat_s)
        return EnginePulse(self.engine._engine_client.is_paused, max_missed=max_missed)  # noqa: SLF001

    def _make_recent(self) -> RecentPrompts:
        """Of as many tokens as the engine can have cached."""
        facts = self._facts()
        return RecentPrompts(
            model=self._llm_config.model_id,
            block_size=facts.block_size,
            max_tokens=facts.kv_capacity_tokens,
            clock=time.monotonic,
        )

    def _make_warmth(self, recent: RecentPrompts) -> WarmUp:
        return WarmUp(recent, self._make_peers(), prefill=self._prefill, report=self._report)

    def _make_hand_over(self, recent: RecentPrompts) -> HandOver:
        return HandOver(
            ReplicaId(_replica_id()),
            recent,
            self._make_peers(),
            prefill=self._prefill,
            report=self._report,
            is_busy=lambda: self._running.num_waiting > 0,
            max_tokens=self._facts().kv_capacity_tokens,
            clock=time.monotonic,
        )

    def _make_peers(self) -> ServePeers:
        context = serve.get_replica_context()
        return ServePeers(application=context.app_name, replicas=context.deployment, routers=self._router_deployment)

    async def _prefill(self, token_ids: Sequence[int]) -> bool:
        """Compute a prompt, to have it cached."""
        body = {"model": self._llm_config.model_id, "prompt": list(token_ids), "max_tokens": 1}
        with self._watch.probing():
            response = await self._own.post("/v1/completions", json=body)
        return response.is_success

    def _kv_events_config(self) -> dict[str, Any]:
        """Where vLLM publishes them."""
        folder = self._kv_folder.name
        return {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"ipc://{folder}/events",
            "replay_endpoint": f"ipc://{folder}/replay",
            "topic": TOPIC,
        }

    def _make_subscription(self) -> KvSubscription:
        config = self._kv_events_config()
        return KvSubscription(config["endpoint"], config["replay_endpoint"])

    def _make_feed(self) -> KvFeed:
        account = EngineBlocks(model=self._llm_config.model_id, block_size=self._facts().block_size)
        return KvFeed(account, partial(self._delivery.post, can_wait=True))

    def _tell_of_reset(self) -> None:
        """At once, and not with the next receipts."""
        assert self._feed is not None, "who is called is fed"
        self._feed.clear()
        self._running.report_status()

    def _on_answers(self, values: list[Any]) -> None:
        """The routers' JSON in answer to the last receipts."""
        answers = [BatchAnswer(value) for value in values]
        if self._warmth is not None:
            self._warmth.on_membership(answers)
        if self._hand_over is not None:
            self._hand_over.on_membership(answers)
        if self._feed is not None and BatchAnswer.WANTS_SNAPSHOT in answers:
            self._feed.send_snapshot()

    async def _beat(self) -> None:
        """Tell the routers that we are here; and leave when the engine has died, as vLLM's own server does.

        Serve would need three failed health checks to find that out. The pause lets the broken streams end with
        vLLM's error, and the routers hear of it.
        """
        while self._running.is_serving:
            if self._feed is not None:
                self._feed.beat()
            if self._tokenizing is not None:
                self._running.tokenizer = self._tokenizing.state
            self._running.report_status()
            self._feel_pulse()
            await asyncio.sleep(self._replicas.heartbeat_s)
        logger.error("The engine died; this replica ends, for Serve to start another")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._watch.streams_told.wait(), STREAMS_TOLD_S)
        await asyncio.sleep(LAST_WORDS_S)
        os._exit(1)

    def _feel_pulse(self) -> None:
        if self._pulse is None:
            return
        end_unless_moving(self._replicas.hang_s)
        self._pulse.beat()
        if self._pulse.is_lost:
            logger.error("The engine hangs: it has not answered for %g s (replicas.hang_s)", self._replicas.hang_s)
            self._watch.give_up(_engine_died())

    def _facts(self) -> ReplicaFacts:
        vllm_config = self.engine._engine_client.vllm_config  # noqa: SLF001
        cache_config = vllm_config.cache_config
        return ReplicaFacts(
            rank=serve.get_replica_context().rank.rank,
            block_size=cache_config.block_size,
            kv_capacity_tokens=cache_config.num_gpu_blocks * cache_config.block_size,
            host_capacity_tokens=known_host_capacity_tokens(vllm_config),
        )

    def _own_client(self, app: ASGIApp) -> httpx.AsyncClient:
        """Asks this replica's own API, in this process."""
        keys = self._llm_config.get_engine_config().frontend_kwargs.get("api_key") or os.environ.get("VLLM_API_KEY")
        key = keys if isinstance(keys, str) or not keys else keys[0]
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://replica",
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=WARM_UP_TIMEOUT_S,
            trust_env=False,
        )

    async def _warm_up(self, client: httpx.AsyncClient) -> None:
        """Serve a few prompts, so that no client waits for compilation, then drop what they cached."""
        for num_chars in WARM_UP_PROMPT_CHARS:
            body = {"model": self._llm_config.model_id, "prompt": "warm up " * (num_chars // 8), "max_tokens": 4}
            response = await client.post("/v1/completions", json=body)
            if response.is_client_error:
                # An embedding model, say, or a short context: nothing to warm up in this way.
                logger.info("Not warmed up further: the engine answers %d", response.status_code)
                break
            response.raise_for_status()
        await self.reset_prefix_cache()

    async def _repeat_self_test(self) -> None:
        while self._running.is_serving:
            await asyncio.sleep(self._replicas.canary_period_s)
            await self._run_self_test()

    async def _run_self_test(self) -> None:
        """Serve the self-test's probes; the next heartbeat tells the routers. A failure costs only the report."""
        try:
            self._running.self_test = await run_self_test(
                self._probe,
                model=self._llm_config.model_id,
                adapter=await self._an_adapter(),
                block_size=self._facts().block_size,
                period_s=self._replicas.canary_period_s,
                is_crowded=lambda: self._running.is_crowded,
            )
        except Exception as error:  # noqa: BLE001  whatever it is, clients are served all the same
            logger.warning("The self-test failed: %s", type(error).__name__)

    async def _probe(self, probe: Probe) -> ProbeResult | None:
        with self._watch.probing() as results:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                response = await self._own.post(probe.path, json=probe.body)
        if response.is_client_error:
            return None
        response.raise_for_status()
        return results[0]

    async def _an_adapter(self) -> str:
        """One that vLLM lists beside the model; empty if there is none."""
        response = await self._own.get("/v1/models")
        models = response.json()["data"] if response.is_success else []
        return min((each["id"] for each in models if each.get("parent")), default="")


def _as_built(app: FastAPI) -> ASGIApp:
    """The app as vLLM has built it, whatever middleware comes before it later."""
    stack = app.middleware_stack
    assert stack is not None, "the first request builds it"

    async def built(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await stack(scope, receive, send)

    return built


def _after_reset(engine_client: Any, on_reset: Callable[[], None]) -> None:  # noqa: ANN401  vLLM's AsyncLLM
    reset = engine_client.reset_prefix_cache

    async def reset_and_tell(*args: Any, **kwargs: Any) -> bool:  # noqa: ANN401
        is_done = bool(await reset(*args, **kwargs))
        if is_done:
            on_reset()
        return is_done

    engine_client.reset_prefix_cache = reset_and_tell


def _name_responses(serving: Any) -> None:  # noqa: ANN401  vLLM's; None where the model generates no text
    """Let the ids of responses say which replica made them, except for those that clients choose themselves."""
    if serving is None:
        return
    create, replica_id = serving.create_responses, _replica_id()

    async def create_named(request: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  ResponsesRequest
        if "request_id" not in request.model_fields_set:
            request.request_id = new_response_id(replica_id)
        return await create(request, *args, **kwargs)

    serving.create_responses = create_named


def _one_process_engine() -> Any:  # noqa: ANN401  a class of Ray's engines
    from serve_app.engines.vllm_one_process import OneProcessEngine

    return OneProcessEngine


def _engine_died() -> Exception:
    """What vLLM's streams end with when their engine has died."""
    from vllm.v1.engine.exceptions import EngineDeadError

    error: Exception = EngineDeadError()
    return error


def _log_file() -> LogFile:
    """With what says whose lines these are, as Serve's lines do."""
    context = serve.get_replica_context()
    whose = {"application": context.app_name, "deployment": context.deployment, "replica": context.replica_tag}
    return LogFile(serve_log(), {**whose, "node_id": ray.get_runtime_context().get_node_id()})


def _replica_id() -> str:
    return str(serve.get_replica_context().replica_id.to_full_id_str())

"""The replica: Ray's LLM server with vLLM's own HTTP API, explaining each response and sending receipts.

Adapter: private names of Ray and vLLM are listed in tests/serve_app/test_private_names.py.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.llm._internal.serve.core.configs.llm_config import LLMConfig
from ray.llm._internal.serve.core.server.llm_server import LLMServer

from router import BlockHash, ReplicaId
from serve_app.control.ray_router_channel import RouterChannel, send_to_routers
from serve_app.messages.delivery import RECEIPTS_PATH, Delivery
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.response_ids import new_response_id
from serve_app.prompt import vllm_hooks
from serve_app.prompt.validation import bound_validation
from serve_app.prompt.vllm_client_faults import blame_clients
from serve_app.replica.kv_events.endpoints import KvEndpoints
from serve_app.replica.kv_events.merge import ReplicaMessage, encode_with_receipts
from serve_app.replica.log_file import LogFile, serve_log
from serve_app.replica.request_log import RequestLog
from serve_app.replica.serving_replica import OnAnswers, ServingReplica, Surroundings
from serve_app.replica.vllm_host_tier import known_host_capacity_tokens
from serve_app.replica.warmth.leave import Given
from serve_app.replica.warmth.neighbours import ServeNeighbours
from serve_app.settings.schema import AccessSettings, EngineName, ReplicaSettings, RouterSettings, TokenizerName
from serve_app.settings.vllm_options import check_media_domains
from serve_app.tenants.live_directory import live_directory


class LLMReplica(LLMServer):  # type: ignore[misc]  # Ray ships no types for it
    """One engine, its HTTP API, and its receipts. Ray makes it, and then the engine and its app, one after the other;
    with the app there is a `ServingReplica`, for which everything else waits.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self,
        llm_config: LLMConfig,
        *,
        router_deployment: str,
        routers: dict[str, Any],
        replicas: dict[str, Any],
        engine: EngineName,
        tokenizer: TokenizerName,
        access: dict[str, Any],
    ) -> None:
        self._engine_name = engine
        self._tokenizer: TokenizerName = tokenizer
        self._router_deployment = router_deployment
        self._routers = RouterSettings.model_validate(routers)
        self._replicas = ReplicaSettings.model_validate(replicas)
        self._access = AccessSettings.model_validate(access)
        self._serving: asyncio.Future[ServingReplica] = asyncio.get_running_loop().create_future()
        self._kv_endpoints = KvEndpoints() if self._replicas.kv_events else None
        if self._kv_endpoints is not None:
            # Ray has read the engine's arguments already, when it built the application.
            llm_config.update_engine_kwargs(kv_events_config=self._kv_endpoints.as_vllm_config())
        await super().__init__(llm_config, engine_cls=None if engine == "vllm" else _one_process_engine())

    async def start(self) -> None:
        """Start the engine."""
        model = Path(self._llm_config.get_engine_config().actual_hf_model_id)
        if model.is_dir():  # noqa: ASYNC240  once, before anything is served
            # Nothing to download: spare each replica a worker process that imports vLLM to find that out.
            self._llm_config.get_or_create_callback().ctx.run_init_node = False
        await super().start()
        if self._vllm_config().model_config.is_multimodal_model:
            check_media_domains(self._llm_config.model_id, self._llm_config.engine_kwargs)

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """vLLM's app, warm, with our middleware outermost. Serve reports the replica ready after this."""
        app: FastAPI = await super().__serve_build_asgi_app__()
        engine_client = self.engine._engine_client  # noqa: SLF001
        bound_validation(
            app,
            max_objects=self._vllm_config().model_config.max_model_len,
            max_sequences=self._replicas.max_waiting_requests,
        )
        blame_clients(app, engine_client)
        vllm_hooks.wrap_response_making(app, _naming)
        serving = ServingReplica(
            self._surroundings(),
            app=app,
            engine_client=engine_client,
            settings=self._replicas,
            tokenizer=self._tokenizer,
            kv_endpoints=self._kv_endpoints,
            keys=live_directory(self._access),
        )
        await serving.get_ready(self.reset_prefix_cache)
        serving.add_middleware(engine=self._engine_name)
        self._serving.set_result(serving)
        return app

    async def share_prompts(self, block_hashes: list[BlockHash]) -> dict[BlockHash, bytes]:
        """Token ids of the prefixes that end with these blocks, as far as they are here, for a replica that joins."""
        return (await self._serving).share_prompts(block_hashes)

    async def take_over(self, replica_to_prompts: dict[ReplicaId, list[Given]]) -> None:
        """Take over from a replica that leaves; its prompts are given by the replica that shall have them."""
        (await self._serving).take_over(replica_to_prompts)

    def record_replica_metadata(self) -> dict[str, Any]:
        """Serve's hook, called once when ready: what routers must know from the first request on."""
        return self._facts().as_metadata()

    async def record_routing_stats(self) -> dict[str, Any]:
        """Serve's hook, polled: the rank may change when replicas leave."""
        return {**await super().record_routing_stats(), **self._facts().as_metadata()}

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve's hook, polled where the deployment has an `autoscaling_config`, and carried to its policy."""
        return (await self._serving).running.work.as_metrics()

    def _surroundings(self) -> Surroundings:
        context = serve.get_replica_context()
        return Surroundings(
            replica_id=ReplicaId(_replica_id()),
            model=self._llm_config.model_id,
            api_key=self._api_key(),
            facts=self._facts,
            neighbours=ServeNeighbours(
                application=context.app_name, replicas=context.deployment, routers=self._router_deployment
            ),
            make_delivery=self._make_delivery,
            log=RequestLog(_log_file().post, clock=time.monotonic) if self._replicas.log_requests else None,
        )

    def _make_delivery(self, on_answers: OnAnswers) -> Delivery[ReplicaMessage]:
        return Delivery(
            send_to_routers(
                RouterChannel(self._router_deployment, serve.get_replica_context().app_name),
                RECEIPTS_PATH,
                sender=_replica_id(),
                timeout_s=self._routers.delivery_timeout_s,
                on_answers=on_answers,
                encode=encode_with_receipts,
            ),
            interval_s=self._routers.delivery_interval_s,
            max_undelivered=self._routers.max_undelivered,
        )

    def _vllm_config(self) -> Any:  # noqa: ANN401  vLLM's VllmConfig
        return self.engine._engine_client.vllm_config  # noqa: SLF001

    def _facts(self) -> ReplicaFacts:
        vllm_config = self._vllm_config()
        cache_config = vllm_config.cache_config
        return ReplicaFacts(
            rank=serve.get_replica_context().rank.rank,
            block_size=cache_config.block_size,
            kv_capacity_tokens=cache_config.num_gpu_blocks * cache_config.block_size,
            host_capacity_tokens=known_host_capacity_tokens(vllm_config),
        )

    def _api_key(self) -> str:
        """The key that vLLM's API demands, the first of several; empty for none."""
        keys = self._llm_config.get_engine_config().frontend_kwargs.get("api_key") or os.environ.get("VLLM_API_KEY")
        return keys or "" if isinstance(keys, str) or not keys else keys[0]


def _naming(create: Callable[..., Any]) -> Callable[..., Any]:
    """Let the ids of responses say which replica made them, except for those that clients choose themselves."""
    replica_id = _replica_id()

    async def create_named(request: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  ResponsesRequest
        if "request_id" not in request.model_fields_set:
            request.request_id = new_response_id(replica_id)
        return await create(request, *args, **kwargs)

    return create_named


def _one_process_engine() -> Any:  # noqa: ANN401  a class of Ray's engines
    from serve_app.engines.vllm_one_process import OneProcessEngine

    return OneProcessEngine


def _log_file() -> LogFile:
    """Serve's log file, with the fields by which Serve's lines say whose they are."""
    context = serve.get_replica_context()
    whose = {"application": context.app_name, "deployment": context.deployment, "replica": context.replica_tag}
    return LogFile(serve_log(), {**whose, "node_id": ray.get_runtime_context().get_node_id()})


def _replica_id() -> str:
    return str(serve.get_replica_context().replica_id.to_full_id_str())

"""The replica: Ray's LLM server with vLLM's own HTTP API, explaining each response and sending receipts.

Adapter: private names of Ray and vLLM are listed in tests/serve_app/test_private_names.py.
"""

import logging
from pathlib import Path
from typing import Any

import httpx
from ray import serve
from ray.llm._internal.serve.core.configs.llm_config import LLMConfig
from ray.llm._internal.serve.core.server.llm_server import LLMServer
from starlette.applications import Starlette
from starlette.types import ASGIApp

from serve_app.broadcast import broadcast_to_routers
from serve_app.delivery import Delivery
from serve_app.explain import ExplainAndReport
from serve_app.receipts import Receipt, report_prefills
from serve_app.replica_facts import ReplicaFacts
from serve_app.settings import RouterSettings

logger = logging.getLogger("ray.serve")

WARM_UP_TIMEOUT_S = 600
WARM_UP_PROMPT_CHARS = (16, 512, 4096)


class LLMReplica(LLMServer):  # type: ignore[misc]  # Ray ships no types for it
    """One engine, its HTTP API, and its receipts."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self, llm_config: LLMConfig, *, router_deployment: str, routers: dict[str, Any]
    ) -> None:
        self._router_deployment = router_deployment
        self._routers = RouterSettings.model_validate(routers)
        await super().__init__(llm_config)

    async def start(self) -> None:
        """Start the engine and listen to its outputs."""
        context = serve.get_replica_context()
        self._receipts: Delivery[Receipt] = Delivery(
            broadcast_to_routers(
                self._router_deployment,
                context.app_name,
                "on_receipts",
                timeout_s=self._routers.delivery_timeout_s,
            ),
            max_undelivered=self._routers.max_undelivered,
        )
        model = Path(self._llm_config.get_engine_config().actual_hf_model_id)
        if model.is_dir():  # noqa: ASYNC240  once, before anything is served
            # Nothing to download: spare each replica a worker process that imports vLLM to find that out.
            self._llm_config.get_or_create_callback().ctx.run_init_node = False
        await super().start()
        engine_client = self.engine._engine_client  # noqa: SLF001
        engine_client.generate = report_prefills(engine_client.generate, self._receipts.post)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """VLLM's app, warm, with our middleware outermost. Serve reports the replica ready after this."""
        app: Starlette = await super().__serve_build_asgi_app__()
        await self._warm_up(app)
        app.middleware_stack = None  # vLLM has built it already; Starlette builds it anew
        app.add_middleware(
            ExplainAndReport,
            replica_id=serve.get_replica_context().replica_id.to_full_id_str(),
            report=self._receipts.post,
        )
        return app

    def record_replica_metadata(self) -> dict[str, Any]:
        """Serve's hook, called once when ready: what routers must know from the first request on."""
        return self._facts().as_metadata()

    async def record_routing_stats(self) -> dict[str, Any]:
        """Serve's hook, polled: the rank may change when replicas leave."""
        return {**await super().record_routing_stats(), **self._facts().as_metadata()}

    def _facts(self) -> ReplicaFacts:
        cache_config = self.engine._engine_client.vllm_config.cache_config  # noqa: SLF001
        return ReplicaFacts(
            rank=serve.get_replica_context().rank.rank,
            block_size=cache_config.block_size,
            kv_capacity_tokens=cache_config.num_gpu_blocks * cache_config.block_size,
        )

    async def _warm_up(self, app: ASGIApp) -> None:
        """Serve a few prompts, so that no client waits for compilation, then drop what they cached."""
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://replica", timeout=WARM_UP_TIMEOUT_S
        ) as client:
            for num_chars in WARM_UP_PROMPT_CHARS:
                body = {"model": self._llm_config.model_id, "prompt": "warm up " * (num_chars // 8), "max_tokens": 4}
                response = await client.post("/v1/completions", json=body)
                if response.is_client_error:
                    # An embedding model, say, or a short context: nothing to warm up in this way.
                    logger.info("Not warmed up further: the engine answers %d", response.status_code)
                    break
                response.raise_for_status()
        await self.reset_prefix_cache()

"""The replica: Ray's LLM server with vLLM's own HTTP API, explaining each response and sending receipts.

Adapter: private names of Ray and vLLM are listed in tests/serve_app/test_private_names.py.
"""

from typing import Any

import httpx
from ray import serve
from ray.llm._internal.serve.core.configs.llm_config import LLMConfig
from ray.llm._internal.serve.core.server.llm_server import LLMServer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.delivery import Delivery, broadcast_to_routers
from serve_app.receipts import Finished, Receipt, Report, current_request_id, report_prefills
from serve_app.replica_facts import ReplicaFacts
from serve_app.routing_note import NOTE_HEADER, RoutingNote
from serve_app.settings import RouterSettings

EXPLAIN_PREFIX = "x-warmroute-"
WARM_UP_PROMPT_CHARS = (16, 512, 4096)


class LLMReplica(LLMServer):  # type: ignore[misc]  # Ray ships no types for it
    """One engine, its HTTP API, and its receipts."""

    async def __init__(self, llm_config: LLMConfig, *, router_deployment: str, routers: dict[str, Any]) -> None:
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
        await super().start()
        engine_client = self.engine._engine_client  # noqa: SLF001
        engine_client.generate = report_prefills(engine_client.generate, self._receipts.post)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """VLLM's app, warm, with our middleware outermost. Serve reports the replica ready after this."""
        app = await super().__serve_build_asgi_app__()
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
        async with httpx.AsyncClient(transport=transport, base_url="http://replica", timeout=None) as client:
            for num_chars in WARM_UP_PROMPT_CHARS:
                body = {"model": self._llm_config.model_id, "prompt": "warm up " * (num_chars // 8), "max_tokens": 4}
                response = await client.post("/v1/completions", json=body)
                response.raise_for_status()
        await self.reset_prefix_cache()


class ExplainAndReport:
    """ASGI middleware: response headers that say where and why, and a receipt when the request is over."""

    def __init__(self, app: ASGIApp, *, replica_id: str, report: Report) -> None:
        self._app = app
        self._replica_id = replica_id
        self._report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        note = _read_note(scope)
        explanation = self._explain(note)

        async def send_explained(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *explanation]
            await send(message)

        token = current_request_id.set(note.request_id if note else None)
        try:
            await self._app(scope, receive, send_explained)
        finally:
            current_request_id.reset(token)
            if note is not None:
                self._report(Finished(note.request_id))

    def _explain(self, note: RoutingNote | None) -> list[tuple[bytes, bytes]]:
        """The replica writes these, because it alone knows who served."""
        fields: dict[str, object] = {"replica": self._replica_id}
        if note is None:
            fields["reason"] = "unrouted"
        else:
            fields |= {
                "request-id": note.request_id,
                "policy": note.policy,
                "reason": note.reason,
                "prompt-tokens": note.prompt_tokens,
                "believed-cached-tokens": note.believed_cached_tokens,
            }
            if note.replica_id != self._replica_id:  # HAProxy retried on another replica
                fields["routed-to"] = note.replica_id
        return [
            (f"{EXPLAIN_PREFIX}{name}".encode(), str(value).encode())
            for name, value in fields.items()
            if value is not None
        ]


def _read_note(scope: Scope) -> RoutingNote | None:
    for name, value in scope["headers"]:
        if name == NOTE_HEADER.encode():
            return RoutingNote.decode(value.decode())
    return None

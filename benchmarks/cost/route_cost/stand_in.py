"""A replica without an engine: it has an address and facts, and reports requests as served. Runs in Ray's workers."""

import asyncio
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router import RequestId
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.messages.delivery import Delivery, Send
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import Arrived, Finished, Prefilled, Receipt, SelfTestReport, Status
from serve_app.settings.schema import ReplicaSettings, RouterSettings

BLOCK_SIZE = 16
KV_CAPACITY_TOKENS = 2_000_000
"""KV capacity of each; eight of them cache a thousand conversations of 16k tokens without evicting any."""


SERVED_PATH = "/served"


class StandIn:
    """Never asked by clients. With receipts, it sends the routers what a replica would."""

    def __init__(self, *, sends_receipts: bool) -> None:
        from ray import serve

        from serve_app.control.ray_router_channel import RouterChannel, send_to_routers
        from serve_app.messages.delivery import RECEIPTS_PATH

        context = serve.get_replica_context()
        self._replica_id = context.replica_id.to_full_id_str()
        self._delivery: Delivery[Receipt] | None = None
        self._self_test: SelfTestReport | None = None
        if sends_receipts:
            settings = RouterSettings()
            send: Send[Receipt] = send_to_routers(
                RouterChannel(ROUTER_DEPLOYMENT, context.app_name),
                RECEIPTS_PATH,
                sender=self._replica_id,
                timeout_s=settings.delivery_timeout_s,
            )
            self._delivery = Delivery(
                send, interval_s=settings.delivery_interval_s, max_undelivered=settings.max_undelivered
            )
            self._heartbeat = asyncio.get_running_loop().create_task(self._beat(self._delivery))

    def __serve_build_asgi_app__(self) -> Starlette:
        """Serve's hook."""
        return Starlette(routes=[Route(SERVED_PATH, self._on_served, methods=["POST"])])

    def record_replica_metadata(self) -> dict[str, Any]:
        """Serve's hook; as `serve_app.replica.deployment`."""
        from ray import serve

        return ReplicaFacts(
            rank=serve.get_replica_context().rank.rank, block_size=BLOCK_SIZE, kv_capacity_tokens=KV_CAPACITY_TOKENS
        ).as_metadata()

    async def set_self_test(self, report: SelfTestReport) -> None:
        """What every heartbeat reports from now on."""
        self._self_test = report

    async def _on_served(self, request: Request) -> Response:
        """Request id, prompt tokens and cached tokens of each request that is over."""
        assert self._delivery is not None
        for request_id, prompt_tokens, cached_tokens in orjson.loads(await request.body()):
            self._delivery.post(Arrived(RequestId(request_id)))
            self._delivery.post(Prefilled(RequestId(request_id), prompt_tokens, cached_tokens))
            self._delivery.post(Finished(RequestId(request_id)))
        return Response()

    async def _beat(self, delivery: Delivery[Receipt]) -> None:
        while True:
            delivery.post(
                Status(
                    outstanding={},
                    is_serving=True,
                    prompt_tokens=0,
                    cached_tokens=0,
                    uncounted_tokens={},
                    looked_up_tokens=0,
                    hit_tokens=0,
                    engine=None,
                    self_test=self._self_test,
                )
            )
            await asyncio.sleep(ReplicaSettings().heartbeat_s)

"""The ingress router: answers HAProxy's question "which replica?" with the core's decision.

Adapter: private names of Ray are listed in tests/serve_app/test_private_names.py.
"""

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
import ray
from ray import serve
from ray.llm._internal.serve.core.configs.llm_config import LLMConfig
from ray.serve._private.common import DeploymentTargetInfo, RunningReplicaInfo
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve._private.long_poll import LongPollClient, LongPollNamespace
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router import (
    NoReplicasError,
    Reason,
    Replica,
    ReplicaId,
    RequestId,
    Reservation,
    Router,
    RouteRequest,
    RoutingDecision,
    hash_blocks,
    root_hash,
)
from router.cluster import Cluster
from router.policies import Policy, make_policy
from serve_app.broadcast import broadcast_to_routers
from serve_app.delivery import Delivery
from serve_app.metrics import RouterMetrics
from serve_app.prompt import Prompt, PromptReader
from serve_app.receipts import Arrived, Finished, Prefilled, Receipt
from serve_app.replica_facts import ReplicaFacts
from serve_app.request_body import Unreadable, UnreadableError
from serve_app.routing_note import NOTE_HEADER, RoutingNote
from serve_app.settings import RouterSettings, RoutingSettings

logger = logging.getLogger("ray.serve")

TRUNCATED_HEADER = "x-body-truncated"
NO_REPLICAS = "no_replicas"
ROUTING_ERROR = "routing_error"
NOBODY = ReplicaId("none")
"""No replica has this id, so HAProxy sends the request through Serve's fallback proxy."""
BYTES_PER_TOKEN = 4
"""Guess for the load of a prompt that could not be tokenised; English text with a common vocabulary."""


class IngressRouter:
    """One router process. Its core is used on one event loop only: requests, receipts and membership."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self, server: DeploymentHandle, llm_config: LLMConfig, routers: dict[str, Any]
    ) -> None:
        self._settings = RouterSettings.model_validate(routers)
        self._routing = RoutingSettings()
        self._router: Router | None = None
        self._metrics = RouterMetrics()
        self._prompts = await asyncio.to_thread(PromptReader, llm_config)
        context = serve.get_replica_context()
        self._router_id = context.replica_id.unique_id
        self._reservations: Delivery[Reservation] = Delivery(
            broadcast_to_routers(
                context.deployment,
                context.app_name,
                "on_reservations",
                timeout_s=self._settings.delivery_timeout_s,
            ),
            max_undelivered=self._settings.max_undelivered,
        )
        self._targets = LongPollClient(
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE),
            {(LongPollNamespace.DEPLOYMENT_TARGETS, server.deployment_id): self._on_targets},
            call_in_event_loop=asyncio.get_running_loop(),
            client_id=f"warmroute-router:{self._router_id}",
        )

    def __serve_build_asgi_app__(self) -> Starlette:
        """HAProxy's only question."""
        return Starlette(routes=[Route("/internal/route", self.route, methods=["POST"])])

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve's hook for a changed `user_config`: the routing settings apply from the next request on."""
        self._routing = RoutingSettings.model_validate(user_config)
        if self._router is not None:
            self._router.policy = self._make_policy()
        logger.info("Routing by %s", self._routing.policy)

    async def route(self, request: Request) -> Response:
        """Choose a replica for one client request. Never fails: what cannot be keyed is balanced by load."""
        body = await request.body()
        prompt = await self._read(body, is_truncated=TRUNCATED_HEADER in request.headers)
        try:
            note = self._decide(prompt, num_body_bytes=len(body))
        except Exception:
            # A fault of ours may cost this request its affinity, never its answer.
            logger.exception("Cannot decide")
            note = self._unplaced(ROUTING_ERROR)
        self._metrics.on_decision(note)
        answer = {"replica_id": note.replica_id, "request_headers": {NOTE_HEADER: note.encode()}}
        return Response(orjson.dumps(answer), media_type="application/json")

    async def on_receipts(self, receipts: Sequence[Receipt]) -> None:
        """From the replicas."""
        router = self._router
        if router is None:
            return
        now = time.monotonic()
        for receipt in receipts:
            match receipt:
                case Arrived():
                    router.on_arrived(receipt.request_id, now=now)
                case Prefilled():
                    router.on_prefilled(
                        receipt.request_id,
                        prompt_tokens=receipt.prompt_tokens,
                        cached_tokens=receipt.cached_tokens,
                        now=now,
                    )
                case Finished():
                    router.on_finished(receipt.request_id)

    async def on_reservations(self, reservations: Sequence[Reservation]) -> None:
        """From every router, ourselves included; what we booked ourselves is known already."""
        if self._router is None:
            return
        now = time.monotonic()
        for reservation in reservations:
            self._router.on_reserved(reservation, now=now)

    async def on_caches_reset(self) -> None:
        """The replicas' prefix caches were emptied on purpose."""
        if self._router is not None:
            self._router.on_caches_reset()

    async def snapshot(self) -> dict[str, Any]:
        """The router's own view, for operators and tests. Counts and ids only."""
        if self._router is not None:
            self._router.expire(now=time.monotonic())
        return {
            "router": self._router_id,
            "policy": self._routing.policy,
            "decisions": dict(self._metrics.reason_to_decisions),
            "unreadable": dict(self._metrics.reason_to_unreadable),
            "reservations_dropped": self._reservations.num_dropped,
            **(_snapshot(self._router.cluster) if self._router is not None else {"block_size": None, "replicas": {}}),
        }

    async def _read(self, body: bytes, *, is_truncated: bool) -> Prompt | Unreadable:
        reason = Unreadable.TRUNCATED_BODY
        if not is_truncated:
            try:
                return await self._prompts.read(body)
            except UnreadableError as error:
                reason = error.reason
        self._metrics.on_unreadable(reason)
        return reason

    def _decide(self, prompt: Prompt | Unreadable, *, num_body_bytes: int) -> RoutingNote:
        if self._router is None:
            return self._unplaced(NO_REPLICAS)
        request = self._describe(self._router, prompt, num_body_bytes)
        try:
            routed = self._router.choose(request, now=time.monotonic())
        except NoReplicasError:
            return self._unplaced(NO_REPLICAS)
        self._reservations.post(routed.reservation)
        return _note(routed.decision, prompt)

    def _unplaced(self, reason: str) -> RoutingNote:
        """No replica: Serve's fallback proxy will find one."""
        return RoutingNote(_new_id(), NOBODY, self._routing.policy, reason, None, None)

    def _describe(self, router: Router, prompt: Prompt | Unreadable, num_body_bytes: int) -> RouteRequest:
        if isinstance(prompt, Unreadable):
            num_tokens = min(num_body_bytes // BYTES_PER_TOKEN, self._prompts.max_model_len)
            return RouteRequest(_new_id(), model="", tenant="", num_prompt_tokens=num_tokens, block_hashes=())
        root = root_hash(model=prompt.model, adapter="", tenant="", cache_salt=prompt.cache_salt)
        return RouteRequest(
            _new_id(),
            model=prompt.model,
            tenant="",
            num_prompt_tokens=len(prompt.token_ids),
            block_hashes=hash_blocks(prompt.token_ids, block_size=router.cluster.block_size, root=root),
        )

    def _on_targets(self, targets: DeploymentTargetInfo) -> None:
        """Serve's long poll: the running replicas changed."""
        replica_to_facts = {info: _facts(info) for info in targets.running_replicas}
        known = {info: facts for info, facts in replica_to_facts.items() if facts is not None}
        if len(known) < len(replica_to_facts):
            logger.warning("%d replicas published no facts; not routing to them", len(replica_to_facts) - len(known))
        if not known:
            if self._router is not None:
                self._router.set_replicas(())
            return
        block_size = next(iter(known.values())).block_size
        if self._router is None or self._router.cluster.block_size != block_size:
            self._router = self._make_router(block_size)
        self._router.set_replicas(
            Replica(ReplicaId(info.replica_id.to_full_id_str()), facts.rank, facts.kv_capacity_tokens)
            for info, facts in known.items()
        )
        logger.info("Routing to %d replicas", len(known))

    def _make_router(self, block_size: int) -> Router:
        return Router(
            policy=self._make_policy(),
            block_size=block_size,
            virtual_nodes=self._settings.virtual_nodes,
            half_life_s=self._settings.half_life_s,
            answer_tokens=self._settings.answer_tokens,
            arrival_ttl_s=self._settings.arrival_ttl_s,
            reservation_ttl_s=self._settings.reservation_ttl_s,
            num_remembered=self._settings.num_remembered,
        )

    def _make_policy(self) -> Policy:
        return make_policy(self._routing.policy, self._routing.policy_options(), random.Random())  # noqa: S311


def _new_id() -> RequestId:
    return RequestId(uuid.uuid4().hex)


def _facts(info: RunningReplicaInfo) -> ReplicaFacts | None:
    return ReplicaFacts.from_metadata(info.routing_stats, info.replica_metadata)


def _snapshot(cluster: Cluster) -> dict[str, Any]:
    return {
        "block_size": cluster.block_size,
        "replicas": {
            replica.replica_id: {
                "rank": replica.rank,
                "kv_capacity_tokens": replica.kv_capacity_tokens,
                "pending_tokens": cluster.load_of(replica).pending_tokens,
                "waiting": cluster.load_of(replica).num_waiting,
                "running": cluster.load_of(replica).num_running,
                "recent_tokens": round(cluster.load_of(replica).recent_tokens),
                "believed_blocks": cluster.holders.num_blocks(replica.replica_id),
            }
            for replica in cluster.replicas
        },
    }


def _note(decision: RoutingDecision, prompt: Prompt | Unreadable) -> RoutingNote:
    if isinstance(prompt, Unreadable):
        reason = prompt.value if decision.reason is Reason.NO_KEY else decision.reason.value
        return RoutingNote(decision.request_id, decision.replica_id, decision.policy, reason, None, None)
    return RoutingNote(
        decision.request_id,
        decision.replica_id,
        decision.policy,
        decision.reason.value,
        decision.num_prompt_tokens,
        decision.believed_cached_tokens,
    )

"""The ingress router: answers HAProxy's question "which replica?" with the core's decision.

Adapter: private names of Ray are listed in tests/serve_app/test_private_names.py.
"""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from ray import serve
from ray.serve._private.common import RunningReplicaInfo
from ray.serve._private.constants import SERVE_MULTIPLEXED_MODEL_ID, SERVE_SESSION_ID
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.types import ASGIApp

from router import BlockHash, NoReplicasError, ReplicaId, Reservation
from serve_app.control.ray_broadcast import ask_all
from serve_app.control.ray_long_poll import follow_replicas
from serve_app.control.ray_router_channel import RouterChannel, send_to_routers
from serve_app.edge.options import EDGE_VARIABLE, edge_token
from serve_app.ingress.counters import RouterMetrics
from serve_app.ingress.endpoint import RouteEndpoint, answer_with
from serve_app.ingress.joining import Joining
from serve_app.ingress.ready_router import ReadyRouter, new_request_id
from serve_app.ingress.records import RouterRecords
from serve_app.ingress.unready_router import UnreadyRouter
from serve_app.ingress.upkeep import Upkeep
from serve_app.messages import batches
from serve_app.messages.delivery import RECEIPTS_PATH, RESERVATIONS_PATH, Delivery
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import BatchAnswer
from serve_app.messages.routing_note import NO_REPLICAS, NOTE_HEADER, ROUTING_ERROR, RoutingNote
from serve_app.messages.snapshot import RouterSnapshot
from serve_app.parity.verdicts import Verdict
from serve_app.prompt.body import Unreadable
from serve_app.prompt.incoming import Incoming, RequestReader
from serve_app.prompt.loading import load_prompt_reader
from serve_app.prompt.served_model import ServedModel
from serve_app.settings.cluster_secret import derived_key
from serve_app.settings.schema import (
    AccessSettings,
    EngineModelSettings,
    EngineName,
    RouterSettings,
    RoutingSettings,
    TokenizerName,
)
from serve_app.tenants.live_directory import live_directory

logger = logging.getLogger("ray.serve")

NO_REPLICA = ReplicaId("none")
"""No replica has this id, so HAProxy sends the request through Serve's fallback proxy."""
JOIN_TIMEOUT_S = 5.0
"""Seconds in which a router shares its state of one replica: a busy router is not an absent one."""


class IngressRouter:
    """One router process. Its core is used on one event loop only: requests, receipts and membership."""

    async def __init__(  # type: ignore[misc]  # Serve awaits constructors
        self,
        server: DeploymentHandle,
        llm: dict[str, Any],
        routers: dict[str, Any],
        engine: EngineName,
        tokenizer: TokenizerName,
        engine_model: dict[str, Any],
        max_sequences: int,
        access: dict[str, Any],
    ) -> None:
        context = serve.get_replica_context()
        self._engine = engine
        self._settings = RouterSettings.model_validate(routers)
        self._engine_model = EngineModelSettings.model_validate(engine_model)
        self._routing = RoutingSettings()
        self._note_key = derived_key(NOTE_HEADER)
        self._router: ReadyRouter | UnreadyRouter = UnreadyRouter()
        self._metrics = RouterMetrics(context.app_name)
        self._records = RouterRecords(self._metrics, self._on_verdict)
        self._model = ServedModel.from_llm(llm)
        self._keys = live_directory(AccessSettings.model_validate(access))
        self._reader = RequestReader(
            session_header=SERVE_SESSION_ID,
            model=self._model,
            max_sequences=max_sequences,
            salt=None if self._keys is None else self._keys.salt,
        )
        self._router_id = context.replica_id.unique_id
        self._peers = serve.get_deployment_handle(context.deployment, app_name=context.app_name)
        self._reservations: Delivery[Reservation] = Delivery(
            send_to_routers(
                RouterChannel(context.deployment, context.app_name, own_id=self._router_id),
                RESERVATIONS_PATH,
                sender=self._router_id,
                timeout_s=self._settings.delivery_timeout_s,
            ),
            interval_s=self._settings.delivery_interval_s,
            max_undelivered=self._settings.max_undelivered,
        )
        self._joining = Joining(lambda: self._router, self._ask_for_state)
        self._following = follow_replicas(
            server.deployment_id, self._on_replicas, client_id=f"warmroute-router:{self._router_id}"
        )
        self._loading = asyncio.create_task(self._load_prompts(llm, tokenizer))
        self._upkeep = Upkeep(lambda: self._router, self._records, self._reader, self._reservations)
        self._exporting = asyncio.create_task(self._upkeep.export_metrics())
        self._judging = asyncio.create_task(self._upkeep.judge_self_tests())
        self._tasks = [self._loading, self._exporting, self._judging]
        if self._keys is not None:
            self._tasks.append(asyncio.create_task(self._keys.follow()))
        if not await self._joining.is_alone():
            await self._loading
        answer_with(
            self.route,
            {RECEIPTS_PATH: self.on_receipts, RESERVATIONS_PATH: self.on_reservations},
            token=edge_token(),
            is_edge=EDGE_VARIABLE in os.environ,
        )

    async def _load_prompts(self, llm: dict[str, Any], tokenizer: TokenizerName) -> None:
        self._reader.prompts = await asyncio.to_thread(load_prompt_reader, llm, tokenizer)

    def check_health(self) -> None:
        """Serve's hook: a router that cannot tokenise, count, or follow the keys, for good is replaced."""
        for task in self._tasks:
            if task.done():
                task.result()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """HAProxy's only question, where Serve has not put it before all else."""
        return RouteEndpoint(Starlette())

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve's hook for a changed `user_config`: the routing settings apply from the next request on."""
        self._routing = RoutingSettings.model_validate(user_config)
        self._metrics.shadows.start(self._routing.shadow_policies)
        self._router.apply(self._routing)
        logger.info("Routing by %s, in its shadow: %s", self._routing.policy, self._routing.shadow_policies)

    async def route(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Choose a replica for one client request, as HAProxy's answer. A prompt without a key goes by load."""
        incoming = await self._reader.read(body, headers, timeout_s=self._settings.read_timeout_s)
        if isinstance(incoming.prompt, Unreadable):
            self._metrics.on_unreadable(incoming.prompt)
        try:
            note = self._router.place(incoming)
        except NoReplicasError:
            note = self._unplaced(NO_REPLICAS, incoming)
        except Exception:
            # A fault of ours may cost this request its affinity, never its answer.
            logger.exception("Cannot decide")
            note = self._unplaced(ROUTING_ERROR, incoming)
        self._metrics.on_decision(note)
        note_headers = {NOTE_HEADER: note.encode(self._note_key)}
        if incoming.adapter_to_load is not None:
            note_headers[SERVE_MULTIPLEXED_MODEL_ID] = incoming.adapter_to_load
        return orjson.dumps({"replica_id": note.replica_id, "request_headers": note_headers})

    async def on_receipts(self, payload: bytes) -> BatchAnswer:
        """Take a replica's receipts; says whether the replica is one of ours, and what we want of it."""
        self._joining.join_again()
        return self._router.on_receipts(payload)

    async def on_reservations(self, payload: bytes) -> None:
        """Take what another router has booked."""
        self._router.on_reservations(payload)

    async def _ask_for_state(self, replica_id: ReplicaId) -> list[Any]:
        return await ask_all(self._peers, "share_state", replica_id, timeout_s=JOIN_TIMEOUT_S)

    async def share_state(self, replica_id: ReplicaId) -> bytes:
        """The state that this router has of a replica, for a router that joins."""
        return batches.encode(self._router_id, 0, self._router.export(replica_id))

    async def on_caches_reset(self) -> None:
        """The replicas' prefix caches were emptied on purpose."""
        self._router.on_caches_reset()

    async def prefixes_for(self, rank: int) -> list[BlockHash]:
        """The prefixes that a replica of this rank will be asked for, the hottest first, for a replica that joins."""
        return self._router.prefixes_for(rank)

    async def places_of(self, prompts: list[tuple[BlockHash, ...]]) -> list[ReplicaId]:
        """The replica that shall have each of these prompts, for a replica that leaves; nothing if we know none."""
        return self._router.places_of(prompts)

    async def snapshot(self, num_prefixes: int = 0) -> dict[str, Any]:
        """A `RouterSnapshot` as plain data, with at most `num_prefixes` of the hottest prefixes."""
        inbox, router = self._records.inbox, self._router
        snapshot = RouterSnapshot(
            router=self._router_id,
            policy=self._routing.policy,
            model=self._model.name,
            engine=self._engine,
            decisions=self._metrics.reason_to_decisions,
            unreadable=self._metrics.reason_to_unreadable,
            shadows=self._metrics.shadows.policy_to_totals,
            prompts=self._reader.snapshot(),
            totals=self._metrics.funnel.totals,
            reservations_dropped=self._reservations.num_dropped,
            refused=inbox.reason_to_refused,
            kv_events_lost=inbox.kv.num_lost,
            tasks=len(asyncio.all_tasks()),
            hot_prefixes=router.hot_prefixes(num_prefixes),
            block_size=router.block_size,
            remembered=router.num_remembered,
            replicas=router.replica_snapshots(),
        )
        return snapshot.as_plain()

    def _unplaced(self, reason: str, incoming: Incoming) -> RoutingNote:
        """A note that names no replica: Serve's fallback proxy will find one."""
        policy = self._routing.policy
        return RoutingNote(new_request_id(), NO_REPLICA, policy, reason, None, None, incoming.num_sequences)

    def _on_replicas(self, replicas: Sequence[RunningReplicaInfo]) -> None:
        """Serve says which replicas run now."""
        replica_to_facts = {_replica_id(info): _facts(info) for info in replicas}
        known = {replica_id: facts for replica_id, facts in replica_to_facts.items() if facts is not None}
        if len(known) < len(replica_to_facts):
            logger.warning("%d replicas published no facts; not routing to them", len(replica_to_facts) - len(known))
        self._records.inbox.keep_only(replica_to_facts)
        block_size = self._router.block_size
        if known:
            block_size = _usual_block_size(known.values(), now=block_size)
        if block_size is None:
            return
        self._router = router = self._router_for(block_size)
        router.set_replicas(known)
        if not known:
            return
        self._joining.replicas_seen.set()
        logger.info("Routing to %d replicas", len(known))

    def _router_for(self, block_size: int) -> ReadyRouter:
        """The present router, or a new one for another block size."""
        if isinstance(self._router, ReadyRouter) and self._router.block_size == block_size:
            return self._router
        return ReadyRouter(
            self._records,
            self._reservations,
            routers=self._settings,
            engine_model=self._engine_model,
            block_size=block_size,
            routing=self._routing,
            clock=time.monotonic,
        )

    def _on_verdict(self, replica_id: ReplicaId, verdict: Verdict) -> None:
        self._router.on_verdict(replica_id, verdict)


def _replica_id(info: RunningReplicaInfo) -> ReplicaId:
    return ReplicaId(info.replica_id.to_full_id_str())


def _facts(info: RunningReplicaInfo) -> ReplicaFacts | None:
    return ReplicaFacts.from_metadata(info.routing_stats, info.replica_metadata)


def _usual_block_size(known: Collection[ReplicaFacts], *, now: int | None) -> int:
    """The block size of most replicas; of equally frequent ones that of now, or else that of the lowest rank."""
    sizes = Counter(facts.block_size for facts in known)
    ranks = {facts.block_size: facts.rank for facts in sorted(known, key=lambda facts: facts.rank, reverse=True)}
    return max(sizes, key=lambda size: (sizes[size], size == now, -ranks[size]))

"""The ingress router: answers HAProxy's question "which replica?" with the core's decision.

Adapter: private names of Ray are listed in tests/serve_app/test_private_names.py.
"""

import asyncio
import contextlib
import gc
import logging
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson
import ray
from ray import serve
from ray.serve._private.common import DeploymentTargetInfo, RunningReplicaInfo
from ray.serve._private.constants import (
    SERVE_CONTROLLER_NAME,
    SERVE_MULTIPLEXED_MODEL_ID,
    SERVE_NAMESPACE,
    SERVE_SESSION_ID,
)
from ray.serve._private.long_poll import LongPollClient, LongPollNamespace
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.types import ASGIApp

from router import (
    BlockHash,
    BlockHasher,
    CacheRecord,
    NoReplicasError,
    Reason,
    Replica,
    ReplicaId,
    RequestId,
    Reservation,
    Router,
    RoutingDecision,
    Shadow,
    TokenHash,
)
from router.policies import Policy, make_policy
from serve_app.control.ray_broadcast import ask_all
from serve_app.control.ray_router_channel import RouterChannel, send_to_routers
from serve_app.edge.options import EDGE_VARIABLE, edge_token
from serve_app.ingress.endpoint import RouteEndpoint, answer_with
from serve_app.ingress.inbox import Inbox
from serve_app.ingress.metrics import RouterMetrics
from serve_app.ingress.snapshot import prefixes_snapshot, snapshot
from serve_app.messages import batches
from serve_app.messages.delivery import RECEIPTS_PATH, RESERVATIONS_PATH, Delivery, DeliveryError
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import BatchAnswer
from serve_app.messages.routing_note import NO_REPLICAS, NOTE_HEADER, ROUTING_ERROR, RoutingNote
from serve_app.parity.samples import KeySamples
from serve_app.parity.verdicts import Verdict, Verdicts
from serve_app.prompt.body import Prompt, Unreadable
from serve_app.prompt.incoming import Incoming, RequestReader
from serve_app.prompt.served_model import ServedModel
from serve_app.settings.cluster_secret import derived_key
from serve_app.settings.schema import EngineModelSettings, EngineName, RouterSettings, RoutingSettings, TokenizerName
from serve_app.telemetry.ray_counters import EXPORT_S

if TYPE_CHECKING:
    from serve_app.prompt.vllm_reader import PromptReader

logger = logging.getLogger("ray.serve")

NOBODY = ReplicaId("none")
"""No replica has this id, so HAProxy sends the request through Serve's fallback proxy."""
REPLICAS_TIMEOUT_S = 1.0
"""Serve names the running replicas at once, if there are any."""
JOIN_TIMEOUT_S = 5.0
"""For a peer's state of one replica; a busy peer is not an absent one."""
MAX_WARM_PREFIXES = 64
"""So many of the hottest are looked at for a replica that joins."""


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
    ) -> None:
        context = serve.get_replica_context()
        self._engine = engine
        self._settings = RouterSettings.model_validate(routers)
        self._engine_model = EngineModelSettings.model_validate(engine_model)
        self._routing = RoutingSettings()
        self._note_key = derived_key(NOTE_HEADER)
        self._router: Router | None = None
        self._hasher: BlockHasher
        """Set with the router, whose block size it has."""
        self._metrics = RouterMetrics(context.app_name)
        self._samples = KeySamples()
        self._parity = Verdicts(self._on_verdict)
        self._inbox = Inbox(self._on_record, self._on_token_hash)
        self._model = ServedModel.from_llm(llm)
        self._reader = RequestReader(session_header=SERVE_SESSION_ID, model=self._model, max_sequences=max_sequences)
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
        self._replicas_seen = asyncio.Event()
        self._targets = LongPollClient(
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE),
            {(LongPollNamespace.DEPLOYMENT_TARGETS, server.deployment_id): self._on_targets},
            call_in_event_loop=asyncio.get_running_loop(),
            client_id=f"warmroute-router:{self._router_id}",
        )
        self._loading = asyncio.create_task(self._load_prompts(llm, tokenizer))
        self._joining: asyncio.Task[bool] | None = None
        self._exporting = asyncio.create_task(self._export_metrics())
        self._judging = asyncio.create_task(self._judge_self_tests())
        if not await self._is_alone():
            await self._loading
        answer_with(
            self.route,
            {RECEIPTS_PATH: self.on_receipts, RESERVATIONS_PATH: self.on_reservations},
            token=edge_token(),
            is_edge=EDGE_VARIABLE in os.environ,
        )

    async def _is_alone(self) -> bool:
        """Whether replicas run and no other router does: clients get 503 until this one answers, so it must at once.

        Whatever the peers know is taken over here, for the first decision.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._replicas_seen.wait(), REPLICAS_TIMEOUT_S)
        return self._replicas_seen.is_set() and not await self._join()

    async def _join(self) -> bool:
        """Take over what the other routers believe and have booked; returns whether one answered."""
        states: list[bytes] = []
        for replica in () if self._router is None else self._router.cluster.replicas:
            try:
                answers = await ask_all(self._peers, "share_state", replica.replica_id, timeout_s=JOIN_TIMEOUT_S)
            except DeliveryError as error:
                logger.info("No state from other routers: %s", error)
                break
            states += [answer for answer in answers if isinstance(answer, bytes)]
        for state in states:
            if self._router is not None:
                self._inbox.on_states(state, self._router, now=time.monotonic())
        return bool(states)

    async def _load_prompts(self, llm: dict[str, Any], tokenizer: TokenizerName) -> None:
        def load() -> "PromptReader":
            from serve_app.prompt.vllm_reader import PromptReader  # imports vLLM, which takes seconds

            prompts = PromptReader(llm, tokenizer=tokenizer)
            gc.collect()
            gc.freeze()  # to go through all that was imported again would stop every decision for a third of a second
            return prompts

        self._reader.prompts = await asyncio.to_thread(load)

    async def _export_metrics(self) -> None:
        while True:
            await asyncio.sleep(EXPORT_S)
            self._metrics.parity.show(self._parity.by_rank())
            self._metrics.show_undelivered(self._reservations.num_dropped)
            self._metrics.show_tokenizers(self._tokenizers())
            if self._router is not None:
                self._metrics.show_replicas(self._router, self._inbox.replica_to_status, now=time.monotonic())
            self._metrics.export()

    def _tokenizers(self) -> Iterator[tuple[str, str]]:
        """Who tokenises in this router and in each replica, by its rank."""
        if self._reader.prompts is not None:
            yield "router", self._reader.prompts.tokenizer
        for replica in () if self._router is None else self._router.cluster.replicas:
            status = self._inbox.replica_to_status.get(replica.replica_id)
            if status is not None and status.tokenizer:
                yield str(replica.rank), status.tokenizer

    async def _judge_self_tests(self) -> None:
        while True:
            await asyncio.sleep(EXPORT_S)
            await self._judge_new()

    async def _judge_new(self) -> None:
        if self._router is not None and self._reader.prompts is not None:
            statuses, read = self._inbox.replica_to_status, self._reader.read
            await self._parity.judge_new(statuses, read, self._hasher, now=time.monotonic())

    def check_health(self) -> None:
        """Serve's hook: a router that cannot tokenise, or count, for good is replaced."""
        for task in (self._loading, self._exporting, self._judging):
            if task.done():
                task.result()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """HAProxy's only question, where Serve has not put it before all else."""
        return RouteEndpoint(Starlette())

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve's hook for a changed `user_config`: the routing settings apply from the next request on."""
        self._routing = RoutingSettings.model_validate(user_config)
        self._metrics.shadows.start(self._routing.shadow_policies)
        if self._router is not None:
            self._router.policy, self._router.shadows = self._make_policy(self._routing.policy), self._make_shadows()
        logger.info("Routing by %s, in its shadow: %s", self._routing.policy, self._routing.shadow_policies)

    async def route(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Choose a replica for one client request; HAProxy's answer. What cannot be keyed is balanced by load."""
        incoming = await self._reader.read(body, headers, timeout_s=self._settings.read_timeout_s)
        if isinstance(incoming.prompt, Unreadable):
            self._metrics.on_unreadable(incoming.prompt)
        try:
            note = self._decide(incoming)
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
        """From a replica; returns whether it is one of ours, and what we want of it."""
        if self._joining is None:
            # Now that others reach us: what they booked since we asked them first.
            self._joining = asyncio.create_task(self._join())
        if self._router is None:
            return BatchAnswer.UNDECIDED
        return self._inbox.on_receipts(payload, self._router, now=time.monotonic())

    async def on_reservations(self, payload: bytes) -> None:
        """From every other router."""
        if self._router is not None:
            self._inbox.on_reservations(payload, self._router, now=time.monotonic())

    async def share_state(self, replica_id: ReplicaId) -> bytes:
        """For a router that joins: what this one believes of a replica and has booked there."""
        state = None if self._router is None else self._router.export(replica_id, now=time.monotonic())
        return batches.encode(self._router_id, 0, [] if state is None else [state])

    async def on_caches_reset(self) -> None:
        """The replicas' prefix caches were emptied on purpose."""
        if self._router is not None:
            self._router.on_caches_reset()

    async def prefixes_for(self, rank: int) -> list[BlockHash]:
        """For a replica that joins: what it will be asked for, by its rank; the hottest first."""
        prefixes = () if self._router is None else self._router.prefixes_for(rank, MAX_WARM_PREFIXES)
        return [each.block_hash for each in prefixes]

    async def places_of(self, prompts: list[tuple[BlockHash, ...]]) -> list[ReplicaId]:
        """For a replica that leaves: who shall have its prompts; nobody if we know of none."""
        if self._router is None or not self._router.cluster.eligible:
            return []
        return self._router.places_of(prompts)

    async def snapshot(self, num_prefixes: int = 0) -> dict[str, Any]:
        """The router's own view, for operators and tests, with so many of the hottest prefixes. Counts and ids only."""
        return {
            "router": self._router_id,
            "policy": self._routing.policy,
            "decisions": dict(self._metrics.reason_to_decisions),
            "unreadable": dict(self._metrics.reason_to_unreadable),
            "shadows": self._metrics.shadows.snapshot(),
            "prompts": self._reader.snapshot(),
            "model": self._model.name,
            "engine": self._engine,
            "accounts": self._metrics.funnel.snapshot(),
            "reservations_dropped": self._reservations.num_dropped,
            "refused": dict(self._inbox.reason_to_refused),
            "kv_events_lost": self._inbox.kv.num_lost,
            "tasks": len(asyncio.all_tasks()),
            "hot_prefixes": prefixes_snapshot(self._router, num_prefixes) if self._router and num_prefixes else [],
            **snapshot(self._router, self._inbox, self._parity, now=time.monotonic()),
        }

    def _decide(self, incoming: Incoming) -> RoutingNote:
        if self._router is None:
            return self._unplaced(NO_REPLICAS, incoming)
        replica_ids = (replica.replica_id for replica in self._router.cluster.replicas)
        request = incoming.describe(_new_id(), self._hasher, replica_ids)
        try:
            routed = self._router.choose(request, now=time.monotonic())
        except NoReplicasError:
            return self._unplaced(NO_REPLICAS, incoming)
        if isinstance(incoming.prompt, Prompt):
            self._samples.keep(request.request_id, incoming.prompt.token_ids)
        self._reservations.post(routed.reservation)
        self._metrics.shadows.on_decision(routed.decision)
        return _note(routed.decision, incoming)

    def _unplaced(self, reason: str, incoming: Incoming) -> RoutingNote:
        """No replica: Serve's fallback proxy will find one."""
        return RoutingNote(_new_id(), NOBODY, self._routing.policy, reason, None, None, incoming.num_sequences)

    def _on_targets(self, targets: DeploymentTargetInfo) -> None:
        """Serve's long poll: the running replicas changed."""
        replica_to_facts = {_replica_id(info): _facts(info) for info in targets.running_replicas}
        known = {replica_id: facts for replica_id, facts in replica_to_facts.items() if facts is not None}
        if len(known) < len(replica_to_facts):
            logger.warning("%d replicas published no facts; not routing to them", len(replica_to_facts) - len(known))
        self._inbox.keep_only(replica_to_facts)
        block_size = None if self._router is None else self._router.cluster.block_size
        if known:
            block_size = _usual_block_size(known.values(), now=block_size)
        if block_size is None:
            return
        if self._router is None or self._router.cluster.block_size != block_size:
            self._router = self._make_router(block_size)
        self._router.set_replicas(
            Replica(replica_id, facts.rank, facts.kv_capacity_tokens, facts.host_capacity_tokens)
            for replica_id, facts in known.items()
        )
        self._parity.set_replicas(known, block_size=block_size)
        for replica_id in known:
            self._on_verdict(replica_id, self._parity[replica_id])
        if not known:
            return
        self._replicas_seen.set()
        logger.info("Routing to %d replicas", len(known))

    def _on_verdict(self, replica_id: ReplicaId, verdict: Verdict) -> None:
        if self._router is not None:
            self._router.set_parity(replica_id, is_known=verdict is Verdict.OK)

    def _on_record(self, record: CacheRecord, ttft_s: float | None) -> None:
        members = () if self._router is None else self._router.cluster.replicas
        for replica in members:
            if replica.replica_id == record.replica_id:
                self._metrics.funnel.on_record(record, ttft_s, rank=replica.rank)

    def _on_token_hash(self, replica_id: ReplicaId, request_id: RequestId, token_hash: TokenHash) -> None:
        agrees = self._samples.agrees(request_id, token_hash)
        if agrees is None:
            return
        rank = self._parity.on_sample(replica_id, agrees=agrees)
        if rank is not None:
            self._metrics.parity.on_sample(rank, agrees=agrees)

    def _make_router(self, block_size: int) -> Router:
        policy = self._make_policy(self._routing.policy)
        router = Router(policy=policy, block_size=block_size, options=self._settings.router_options(self._engine_model))
        router.shadows = self._make_shadows()
        self._hasher = BlockHasher(block_size=block_size)
        return router

    def _make_policy(self, name: str) -> Policy:
        return make_policy(name, random.Random())  # noqa: S311

    def _make_shadows(self) -> tuple[Shadow, ...]:
        return tuple(Shadow(self._make_policy(name)) for name in self._routing.shadow_policies)


def _new_id() -> RequestId:
    return RequestId(uuid.uuid4().hex)


def _replica_id(info: RunningReplicaInfo) -> ReplicaId:
    return ReplicaId(info.replica_id.to_full_id_str())


def _facts(info: RunningReplicaInfo) -> ReplicaFacts | None:
    return ReplicaFacts.from_metadata(info.routing_stats, info.replica_metadata)


def _usual_block_size(facts: Collection[ReplicaFacts], *, now: int | None) -> int:
    """That of most replicas; where as many have another one, that of now, or of the lowest rank."""
    sizes = Counter(each.block_size for each in facts)
    ranks = {each.block_size: each.rank for each in sorted(facts, key=lambda each: each.rank, reverse=True)}
    return max(sizes, key=lambda size: (sizes[size], size == now, -ranks[size]))


def _note(decision: RoutingDecision, incoming: Incoming) -> RoutingNote:
    reason = decision.reason.value
    if isinstance(incoming.prompt, Unreadable) and decision.reason is Reason.NO_KEY:
        reason = incoming.prompt.value
    return RoutingNote(
        decision.request_id,
        decision.replica_id,
        decision.policy,
        reason,
        incoming.num_prompt_tokens,
        None if incoming.num_prompt_tokens is None else decision.believed_cached_tokens,
        incoming.num_sequences,
    )

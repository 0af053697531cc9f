"""The router of a process that knows at least one replica: the core, and what keeps it up to date.

A prompt is keyed by blocks of the replicas' size, so there is no core before a replica has told its own. Until then the
process has an `UnreadyRouter` (`serve_app.ingress.unready_router`).
"""

import random
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

from router import (
    BlockHash,
    BlockHasher,
    Reason,
    Replica,
    ReplicaId,
    ReplicaState,
    RequestId,
    Reservation,
    RoutingDecision,
    Shadow,
)
from router.policies import Policy, make_policy
from serve_app.ingress.records import RouterRecords
from serve_app.ingress.snapshot import hot_prefixes, replica_snapshots
from serve_app.messages.delivery import Delivery
from serve_app.messages.facts import ReplicaFacts
from serve_app.messages.receipts import BatchAnswer
from serve_app.messages.routing_note import RoutingNote
from serve_app.messages.snapshot import HotPrefix, ReplicaSnapshot
from serve_app.parity.verdicts import Read, Verdict
from serve_app.prompt.body import Prompt, Unreadable
from serve_app.prompt.incoming import Incoming
from serve_app.settings.schema import EngineModelSettings, RouterSettings, RoutingSettings

MAX_WARM_PREFIXES = 64
"""The number of the hottest prefixes that are considered for a replica that joins at most."""


class ReadyRouter:
    """The core for one block size. Used on one event loop only.

    Args:
        records: what the process keeps, which outlives a change of the block size.
        reservations: delivers to the other routers what this one has booked.
        routers: the core's numbers.
        engine_model: the time that engines take.
        block_size: the block size of most replicas, in tokens.
        routing: the policy and its shadows.
        clock: seconds, monotonic.

    """

    def __init__(
        self,
        records: RouterRecords,
        reservations: Delivery[Reservation],
        *,
        routers: RouterSettings,
        engine_model: EngineModelSettings,
        block_size: int,
        routing: RoutingSettings,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._reservations = reservations
        self._clock = clock
        self._hasher = BlockHasher(block_size=block_size)
        self.block_size = block_size
        self.core = routers.make_router(
            policy=_policy(routing.policy), block_size=block_size, engine_model=engine_model
        )
        self.core.shadows = _shadows(routing)

    @property
    def replicas(self) -> Sequence[Replica]:
        """The running replicas that have published their facts."""
        return self.core.cluster.replicas

    def apply(self, routing: RoutingSettings) -> None:
        """Take another policy and other shadows from the next request on."""
        self.core.policy, self.core.shadows = _policy(routing.policy), _shadows(routing)

    def set_replicas(self, replica_to_facts: Mapping[ReplicaId, ReplicaFacts]) -> None:
        """Route to these replicas from now on."""
        self.core.set_replicas(
            Replica(replica_id, facts.rank, facts.kv_capacity_tokens, facts.host_capacity_tokens)
            for replica_id, facts in replica_to_facts.items()
        )
        verdicts = self._records.verdicts
        verdicts.set_replicas(replica_to_facts, block_size=self.block_size)
        for replica_id in replica_to_facts:
            self.on_verdict(replica_id, verdicts[replica_id])

    def place(self, incoming: Incoming) -> RoutingNote:
        """Choose a replica for a request, and book it.

        Raises:
            NoReplicasError: no replica runs.

        """
        replica_ids = (replica.replica_id for replica in self.replicas)
        request = incoming.describe(new_request_id(), self._hasher, replica_ids)
        routed = self.core.choose(request, now=self._clock())
        if isinstance(incoming.prompt, Prompt):
            self._records.samples.keep(request.request_id, incoming.prompt.token_ids)
        self._reservations.post(routed.reservation)
        self._records.metrics.shadows.on_decision(routed.decision)
        return _note(routed.decision, incoming)

    def on_receipts(self, payload: bytes) -> BatchAnswer:
        """A replica sent a batch of receipts."""
        return self._records.inbox.on_receipts(payload, self.core, now=self._clock())

    def on_reservations(self, payload: bytes) -> None:
        """Another router sent a batch of reservations."""
        self._records.inbox.on_reservations(payload, self.core, now=self._clock())

    def on_states(self, payloads: Iterable[bytes]) -> None:
        """Other routers sent what they know of a replica."""
        for payload in payloads:
            self._records.inbox.on_states(payload, self.core, now=self._clock())

    def on_verdict(self, replica_id: ReplicaId, verdict: Verdict) -> None:
        """The verdict on a replica changed."""
        self.core.set_parity(replica_id, is_known=verdict is Verdict.OK)

    def on_caches_reset(self) -> None:
        """The replicas' prefix caches were emptied on purpose."""
        self.core.on_caches_reset()

    def export(self, replica_id: ReplicaId) -> list[ReplicaState]:
        """What this router knows of a replica, for a router that joins; nothing of an unknown one."""
        state = self.core.export(replica_id, now=self._clock())
        return [] if state is None else [state]

    def prefixes_for(self, rank: int) -> list[BlockHash]:
        """The prefixes that a replica of this rank will be asked for, the hottest first."""
        return [prefix.block_hash for prefix in self.core.prefixes_for(rank, MAX_WARM_PREFIXES)]

    def places_of(self, prompts: Sequence[tuple[BlockHash, ...]]) -> list[ReplicaId]:
        """The replica that shall have each of these prompts; nothing where no replica is eligible."""
        return self.core.places_of(prompts) if self.core.cluster.eligible else []

    async def judge_self_tests(self, read: Read) -> None:
        """Judge the replicas' new self-tests."""
        records = self._records
        await records.verdicts.judge_new(records.inbox.replica_to_status, read, self._hasher, now=self._clock())

    @property
    def num_remembered(self) -> int:
        """Number of ended requests that the router remembers."""
        return self.core.cluster.load.num_remembered

    def hot_prefixes(self, limit: int) -> list[HotPrefix]:
        """The hottest prefixes, at most `limit`."""
        return hot_prefixes(self.core, limit) if limit else []

    def replica_snapshots(self) -> dict[str, ReplicaSnapshot]:
        """Every replica by its id, as it would be for a decision now."""
        return replica_snapshots(self.core, self._records.inbox, self._records.verdicts, now=self._clock())

    def show_replicas(self) -> None:
        """Set the metrics of every replica."""
        self._records.metrics.show_replicas(self.core, self._records.inbox.replica_to_status, now=self._clock())


def new_request_id() -> RequestId:
    """A request's id, which nothing can be told from."""
    return RequestId(uuid.uuid4().hex)


def _policy(name: str) -> Policy:
    return make_policy(name, random.Random())  # noqa: S311


def _shadows(routing: RoutingSettings) -> tuple[Shadow, ...]:
    return tuple(Shadow(_policy(name)) for name in routing.shadow_policies)


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

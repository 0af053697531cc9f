"""The router: keeps the cluster's state, asks the policy, and books its decisions.

Driven from outside: `set_replicas`, `choose`, then the news from the replicas and from the other routers. Ray Serve,
the simulator and the tests all drive this same object.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from router.belief.cache_estimates import CacheEstimates
from router.belief.holders import Holders
from router.belief.hot_prefixes import HotPrefix
from router.belief.match import PrefixMatch
from router.cluster import Cluster
from router.errors import NoReplicasError
from router.load.health import Exclusion, Health
from router.load.outstanding import Outstanding
from router.load.reservations import Reservations
from router.membership import adopt_state, export_state, replace_replicas
from router.outcomes.funnel import CacheRecord, Known, make_record
from router.outcomes.shadow import Shadow
from router.placement import places_of, prefixes_for
from router.policies.policy import Choice, Policy
from router.ring import Ring
from router.state import ReplicaState
from router.types import (
    BlockHash,
    EngineLoad,
    Reason,
    Replica,
    ReplicaId,
    RequestId,
    Reservation,
    RouteRequest,
    RoutingDecision,
)


class Routed(NamedTuple):
    """A decision, and the reservation by which the other routers learn of it."""

    decision: RoutingDecision
    reservation: Reservation


class Router:
    """One process's router. Its view of load and caches is its own, corrected by receipts and by its peers.

    Args:
        policy: chooses the replica; may be replaced while running.
        block_size: tokens in a routing block.
        virtual_nodes: points of each rank on the ring.
        health: tells which replicas are excluded.
        load: the requests that are outstanding; like `health`, without any replica yet.

    """

    def __init__(
        self, *, policy: Policy, block_size: int, virtual_nodes: int, health: Health, load: Reservations
    ) -> None:
        self.policy = policy
        self.shadows: tuple[Shadow, ...] = ()  # may be replaced while running, too
        self.health = health
        self._virtual_nodes = virtual_nodes
        self._excluded: Mapping[ReplicaId, Exclusion] | None = None  # as the cluster knows it
        self.cluster = Cluster(
            load=load,
            holders=Holders(),
            ring=Ring((), virtual_nodes=virtual_nodes),
            block_size=block_size,
            engine_model=load.model,
        )
        self._estimates = CacheEstimates(self.cluster)

    # The replicas

    def set_replicas(self, replicas: Iterable[Replica]) -> None:
        """Replace the set of replicas. The state of those that stay is kept."""
        replace_replicas(replicas, self.cluster, self._estimates, self.health, virtual_nodes=self._virtual_nodes)
        self._excluded = None

    def set_parity(self, replica_id: ReplicaId, *, is_known: bool) -> None:
        """Set whether a replica is known to find prompts by the keys that are used here. It is, until told otherwise.

        While it is not, its cache goes on being estimated, but the estimate does not count, nor is it corrected by what
        its engine reuses. Unknown replicas are ignored.
        """
        cluster = self.cluster
        if replica_id in cluster.load:
            cluster.distrust(cluster.untrusted - {replica_id} if is_known else cluster.untrusted | {replica_id})

    def on_heard(self, replica_id: ReplicaId, *, is_serving: bool, now: float) -> None:
        """A replica spoke, and said whether it can serve."""
        self.health.heard(replica_id, is_serving=is_serving, now=now)

    def on_engine_load(self, replica_id: ReplicaId, load: EngineLoad) -> None:
        """An engine told its own numbers, as of now. Unknown replicas are ignored."""
        if replica_id in self.cluster.load:
            self.cluster.load.set_engine(replica_id, load)

    # A decision

    def choose(self, request: RouteRequest, *, now: float) -> Routed:
        """Place a request and book it.

        Raises:
            NoReplicasError: no replica is known.

        """
        cluster = self.cluster
        if not cluster.replicas:
            raise NoReplicasError
        self.prepare(now=now)
        stored = None if request.stored_at is None else self._stored(request)
        chosen = stored or self.policy.choose(request, cluster)
        match = cluster.match(request.block_hashes)
        reservation = self._reservation(request, chosen.replica)
        shadows = (
            () if stored else tuple(shadow.answer(request, cluster, live=chosen.replica) for shadow in self.shadows)
        )
        decision = RoutingDecision(
            request_id=request.request_id,
            replica_id=chosen.replica.replica_id,
            policy=self.policy.name,
            reason=chosen.reason,
            num_prompt_tokens=request.num_prompt_tokens,
            believed_cached_tokens=request.num_prompt_tokens - reservation.pending_tokens,
            best_cached_tokens=cluster.best_cached_tokens(request),
            shadows=shadows,
        )
        known = self._known(request, match)
        cluster.lateness.decided(by_another=False)
        outstanding = self._reserve(reservation, now=now, late_s=cluster.lateness.delay_s)
        if outstanding is not None:
            outstanding.known = known
        return Routed(decision, reservation)

    def prepare(self, *, now: float) -> None:
        """Bring the load and the eligible replicas up to date, for a decision now."""
        self.expire(now=now)
        self.cluster.now = now
        self._fade(now=now)
        excluded = self.health.excluded(now=now)
        if excluded is not self._excluded:
            self._excluded = excluded
            self.cluster.exclude(excluded)

    def _stored(self, request: RouteRequest) -> Choice | None:
        """The only replica that can serve this request, eligible or not; None if any can, or if it is gone."""
        replica = self.cluster.replica(request.stored_at)
        return None if replica is None else Choice(replica, Reason.STORED)

    def _reservation(self, request: RouteRequest, replica: Replica) -> Reservation:
        cluster = self.cluster
        blocks = cluster.holders.cached_blocks(replica.replica_id, request.block_hashes)
        cached = cluster.cached_by(replica, request, blocks)
        return Reservation(
            request=request,
            replica_id=replica.replica_id,
            num_held_blocks=blocks.num_blocks,
            is_computed=cluster.load_of(replica).num_waiting == 0,
            pending_tokens=request.num_prompt_tokens - cached.total,
            external_tokens=cached.external,
            answer_tokens=cluster.answer_tokens(replica, request, blocks),
        )

    def _known(self, request: RouteRequest, match: PrefixMatch) -> Known:
        memory = self._estimates.seen.match(request.block_hashes)
        best_blocks = match.best_blocks(self.cluster.trusted)
        gone_blocks = max(match.cached_blocks, memory.gone_blocks)
        return Known(best_blocks, gone_blocks, memory.seen_blocks, memory.shared_blocks)

    def _reserve(self, reservation: Reservation, *, now: float, late_s: float = 0.0) -> Outstanding | None:
        self._fade(now=now)
        cluster = self.cluster
        answer_tokens = cluster.answers.expected_tokens(reservation.request)
        outstanding = cluster.load.reserve(reservation, answer_tokens=answer_tokens, now=now, late_s=late_s)
        if outstanding is not None:
            self._estimates.placed(outstanding)
            self.policy.on_reserved(reservation)
            for shadow in self.shadows:
                shadow.on_reserved(reservation)
        return outstanding

    # What becomes of requests

    def on_reserved(self, reservation: Reservation, *, now: float) -> bool:
        """Book a peer's decision. A repeated, late or unknown one, or our own, changes nothing, and returns False."""
        is_new = self._reserve(reservation, now=now) is not None
        if is_new:
            self.cluster.lateness.decided(by_another=True)
        return is_new

    def on_arrived(self, request_id: RequestId, replica_id: ReplicaId, *, now: float, waited_s: float = 0.0) -> None:
        """A request reached a replica, which waited `waited_s` before it told that.

        Where that is another replica than the one it was sent to, the request is booked again there.
        """
        outstanding = self.cluster.load.outstanding(request_id)
        if outstanding is None:
            return
        known = outstanding.known
        if outstanding.reservation.replica_id != replica_id:
            self._move(outstanding, replica_id, now=now)
        delay_s = self.cluster.load.arrived(request_id, now=now)
        if delay_s is not None and known is not None:
            self.cluster.lateness.told(delay_s=max(0.0, delay_s - waited_s))

    def _move(self, outstanding: Outstanding, replica_id: ReplicaId, *, now: float) -> None:
        request = outstanding.reservation.request
        self.health.connection_failed(outstanding.reservation.replica_id, now=now)
        self.cluster.load.withdraw(request.request_id)
        self._estimates.withdrawn(outstanding)
        replica = self.cluster.replica(replica_id)
        moved = None if replica is None else self._reserve(self._reservation(request, replica), now=now)
        if moved is not None:
            moved.known = outstanding.known

    def on_outstanding(
        self, replica_id: ReplicaId, request_to_prefilled_tokens: Mapping[RequestId, int], *, now: float
    ) -> None:
        """A replica listed its requests, each with its prompt tokens that had a first output.

        A request that it had, or should have, and does not list is over. A first token whose receipt was lost is made
        up for, except for its cached tokens.
        """
        load = self.cluster.load
        for request_id in load.lost(replica_id, request_to_prefilled_tokens.keys(), now=now):
            self.on_finished(request_id, now=now)
        for request_id, missed_tokens in load.missed(replica_id, request_to_prefilled_tokens):
            outstanding = load.prefilled(request_id, prompt_tokens=missed_tokens, now=now)
            if outstanding is not None:
                self._estimates.computed(outstanding)

    def on_prefilled(
        self,
        request_id: RequestId,
        *,
        prompt_tokens: int,
        cached_tokens: int,
        now: float,
        is_looked_up: bool = True,
        external_cached_tokens: int = 0,
    ) -> CacheRecord | None:
        """A first token: the engine counts `prompt_tokens` in the prompt, and reused `cached_tokens` of them.

        `external_cached_tokens` of these came from its second tier. If the request asked the engine not to look into
        its cache, the reuse says nothing of the cache. Returns the prompt's record, if the request was decided here.
        """
        load, outstanding = self.cluster.load, self.cluster.load.outstanding(request_id)
        if outstanding is None:
            return None
        record = self._record(outstanding, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens)
        reservation = outstanding.reservation
        if is_looked_up:
            self.cluster.reuse.learn(reservation.replica_id, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens)
        if load.prefilled(request_id, prompt_tokens=prompt_tokens, now=now) is not None:
            if is_looked_up:
                self._estimates.reused(outstanding, cached_tokens=cached_tokens, external_tokens=external_cached_tokens)
            self._estimates.computed(outstanding)
            self._estimates.seen.on_computed(reservation.request.block_hashes)
        return record

    def _record(self, outstanding: Outstanding, *, prompt_tokens: int, cached_tokens: int) -> CacheRecord | None:
        if outstanding.known is None:
            return None
        return make_record(
            outstanding.reservation,
            outstanding.known,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            block_size=self.cluster.block_size,
        )

    def on_finished(self, request_id: RequestId, *, now: float, answer_tokens: int | None = None) -> None:
        """A request ended, also by error or disconnect. Without a first token, its prefix was never cached.

        Otherwise its blocks were in use until now, and can be evicted from now on, as the last used ones.
        `answer_tokens` are those that its engine generated, of all choices together; None where they are unknown.
        """
        outstanding = self.cluster.load.finished(request_id, now=now)
        if outstanding is None:
            return
        if answer_tokens:
            request = outstanding.reservation.request
            self.cluster.answers.learn(request, answer_tokens / request.num_sequences)
        self._estimates.finished(outstanding, answer_tokens=answer_tokens or 0)

    def expire(self, *, now: float) -> int:
        """Give up reservations without a sign of life for too long. Returns their number."""
        expired = self.cluster.load.expired(now=now)
        for request_id in expired:
            self.on_finished(request_id, now=now)
        return len(expired)

    # What becomes of caches

    def on_caches_reset(self) -> None:
        """Every engine dropped its cached prefixes. The engine of an exact replica tells so itself, if it did.

        Second tiers keep theirs: vLLM resets its cache without them.
        """
        self._estimates.reset()

    def on_warmed(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """A replica has computed a prefix by itself, before any request asked for it.

        Unknown replicas are ignored, and exact ones have said so already.
        """
        holders = self.cluster.holders
        self.cluster.tiers.on_computed(replica_id, block_hashes)
        if replica_id in self.cluster.load and not holders.is_exact(replica_id):
            holders.insert(replica_id, block_hashes)
            self._estimates.seen.on_computed(block_hashes)

    def on_blocks_stored(
        self, replica_id: ReplicaId, parent: BlockHash | None, block_hashes: Sequence[BlockHash]
    ) -> None:
        """KV event: an engine has a chain of full blocks on top of `parent`, or from the start if that is None.

        KV events change nothing unless the replica is exact, so they need not be held back for one that is not. A block
        may be stored several times; it is there until it was removed as often. A block whose parent is missing cannot
        be reused, and counts as cached as soon as the parent does.
        """
        self.cluster.holders.store(replica_id, parent, block_hashes)

    def on_blocks_removed(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """KV event: an engine evicted blocks; those of one message together are cheaper than one by one.

        Unknown blocks are ignored. Blocks that build on an evicted one are not cached either, until it is back.
        """
        if self.cluster.holders.is_exact(replica_id):
            self.cluster.holders.remove(replica_id, block_hashes, self.cluster.load.prompts(replica_id))

    def on_blocks_cleared(self, replica_id: ReplicaId) -> None:
        """KV event, or the start of a stream: an engine has no blocks now, and will tell all its events from here on.

        The replica is exact from now on: its cache is what its engine stored and did not remove, and the prompts that
        are outstanding there. A snapshot is this event and then the blocks.
        """
        if replica_id in self.cluster.load:
            self._estimates.seen.on_gone(self.cluster.holders.export(replica_id))
            self.cluster.holders.begin_exact(replica_id, self.cluster.load.use_to_prompt(replica_id))

    def on_events_lost(self, replica_id: ReplicaId) -> None:
        """An engine's events are missing, or come no more. Until it is cleared, its cache is estimated by receipts.

        The estimate starts with the blocks that were known to be there.
        """
        self.cluster.holders.end_exact(replica_id)

    # Prefixes without a request

    def hot_prefixes(self, limit: int) -> list[HotPrefix]:
        """The prefixes that most of the recent work has in common, the hottest first; at most `limit`."""
        return self.cluster.holders.hot_prefixes(limit, total_work=self.cluster.load.total.stored_recent_tokens)

    def prefixes_for(self, rank: int, limit: int) -> list[HotPrefix]:
        """Those of the `limit` hottest prefixes with which a replica of this rank will be sent prompts, if it joins."""
        hot_prefixes = self.hot_prefixes(limit)
        return prefixes_for(rank, hot_prefixes, self.cluster, virtual_nodes=self._virtual_nodes)

    def places_of(self, prompts: Sequence[Sequence[BlockHash]]) -> list[ReplicaId]:
        """The replicas that shall have these prompts, each of at least a block, when no replica has them.

        Raises:
            NoReplicasError: no replica is known.

        """
        if not self.cluster.eligible:
            raise NoReplicasError
        return places_of(prompts, self.cluster)

    # A router that joins

    def export(self, replica_id: ReplicaId, *, now: float) -> ReplicaState | None:
        """The state of a replica here, for a router that joins; None if the replica is unknown."""
        return export_state(self.cluster, replica_id, now=now) if replica_id in self.cluster.load else None

    def adopt(self, state: ReplicaState, *, now: float) -> None:
        """Take over a peer's state of a replica, in addition to what is known here. Unknown replicas are ignored."""
        if state.replica_id in self.cluster.load:
            self._fade(now=now)
            adopt_state(self.cluster, self._estimates, state, now=now)

    def _fade(self, *, now: float) -> None:
        factor = self.cluster.load.fade(now=now)
        if factor is not None:
            self.cluster.holders.scale_work(factor)

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        cluster = self.cluster
        cluster.load.check_integrity()
        cluster.holders.check_integrity()
        cluster.tiers.check_integrity()
        self._estimates.seen.check_integrity()
        for replica in cluster.replicas:
            if cluster.holders.is_exact(replica.replica_id):
                cluster.holders.check_exact(replica.replica_id, cluster.load.prompts(replica.replica_id))

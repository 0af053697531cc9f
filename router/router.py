"""The router: keeps the cluster's state, asks the policy, and books what it decided.

Driven from outside: `set_replicas`, `choose`, then what the replicas and the other routers report.
Ray Serve, the simulator and the tests all drive this same object.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

from router.account.funnel import CacheRecord, Known, make_record
from router.account.shadow import Shadow
from router.belief.holders import Holders, LastUses, Placed, PrefixMatch
from router.belief.hot_prefixes import HotPrefix
from router.belief.missing import MissingBook
from router.belief.seen import Seen
from router.cluster import Cluster
from router.errors import NoReplicasError
from router.keys.blocks import cacheable_tokens, unknown_hashes
from router.load.engine_model import EngineModel
from router.load.health import Exclusion, HealthBook
from router.load.reservations import LoadBook
from router.policies.policy import Choice, Policy
from router.ring import Ring, bound
from router.state import LearnedState, ReplicaState
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

Value = TypeVar("Value")

PLACES_LOAD_FACTOR = 1.25
"""Of orphaned prompts, nobody gets more than this multiple of the mean, and one more: as `load_factor` for new ones."""


class Routed(NamedTuple):
    """A decision, and the reservation by which the other routers learn of it."""

    decision: RoutingDecision
    reservation: Reservation


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """The numbers of a router's bookkeeping; times in seconds."""

    engine_model: EngineModel
    """How long the replicas' engines take; how fast each is beside it is learned."""
    virtual_nodes: int
    """Points of each rank on the ring."""
    half_life_s: float
    """How fast the memory of recent work fades."""
    answer_tokens: int
    """The work that an answer is, in prefill tokens."""
    arrival_ttl_s: float
    """A request that its replica does not list by then, though it lists others, is over or will never come."""
    reservation_ttl_s: float
    """How long a decision counts as load without any sign of life."""
    silence_s: float
    """A replica is out of the choice after so long without a word."""
    exclusion_s: float
    """How long silence, or its own word, can keep a replica out."""
    retry_s: float
    """When a replica is tried again after a failed connection."""


class Router:
    """One process's router. Its load and beliefs are its own view, repaired by receipts and by its peers.

    Args:
        policy: chooses the replica; may be replaced while running.
        block_size: tokens in a routing block.
        options: the numbers.

    """

    def __init__(self, *, policy: Policy, block_size: int, options: RouterOptions) -> None:
        self.policy = policy
        self.shadows: tuple[Shadow, ...] = ()  # may be replaced while running, too
        self.health = HealthBook(silence_s=options.silence_s, exclusion_s=options.exclusion_s, retry_s=options.retry_s)
        self._virtual_nodes = options.virtual_nodes
        self._excluded: Mapping[ReplicaId, Exclusion] | None = None  # as the choice was made with
        self._seen = Seen()
        self._known: dict[RequestId, Known] = {}  # of the outstanding requests that were decided here
        self._last_uses: dict[RequestId, LastUses] = {}  # of all outstanding prompts, before they were sent
        self._missing = MissingBook()
        self.cluster = Cluster(
            load=LoadBook(
                model=options.engine_model,
                half_life_s=options.half_life_s,
                answer_tokens=options.answer_tokens,
                arrival_ttl_s=options.arrival_ttl_s,
                ttl_s=options.reservation_ttl_s,
            ),
            holders=Holders(),
            ring=Ring((), virtual_nodes=options.virtual_nodes),
            block_size=block_size,
            engine_model=options.engine_model,
        )

    def set_replicas(self, replicas: Iterable[Replica]) -> None:
        """Replace the set of replicas. Load and beliefs of those that stay are kept."""
        cluster = self.cluster
        new = tuple(sorted(replicas, key=lambda replica: (replica.rank, replica.replica_id)))
        kept_ids = {replica.replica_id for replica in new}
        for replica in cluster.replicas:
            if replica.replica_id not in kept_ids:
                self._remove(replica.replica_id)
        for replica in new:
            self.health.add_replica(replica.replica_id)
            cluster.load.add_replica(replica.replica_id)
            capacity_blocks = replica.kv_capacity_tokens // cluster.block_size
            cluster.holders.add_replica(replica.replica_id, capacity_blocks=capacity_blocks)
            host_blocks = replica.host_capacity_tokens // cluster.block_size
            cluster.tiers.set_capacity(replica.replica_id, capacity_blocks=host_blocks)
        cluster.ring = Ring({replica.rank for replica in new}, virtual_nodes=self._virtual_nodes)
        cluster.set_replicas(new)
        self._excluded = None
        largest_tiers_tokens = (max(replica.kv_capacity_tokens, replica.host_capacity_tokens) for replica in new)
        self._seen.grow_to(sum(each // cluster.block_size for each in largest_tiers_tokens))

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
        reservation = self._claim(request, chosen.replica)
        shadows = () if stored else tuple(each.answer(request, cluster, live=chosen.replica) for each in self.shadows)
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
        known = self._know(request, match, match.best_blocks(cluster.trusted))
        cluster.lateness.decided(by_another=False)
        if self._reserve(reservation, now=now, late_s=cluster.lateness.delay_s):
            self._known[request.request_id] = known
        return Routed(decision, reservation)

    def prepare(self, *, now: float) -> None:
        """Bring load and choice up to date, for a decision now."""
        self.expire(now=now)
        self.cluster.now = now
        self._fade(now=now)
        excluded = self.health.excluded(now=now)
        if excluded is not self._excluded:
            self._excluded = excluded
            self.cluster.exclude(excluded)

    def on_reserved(self, reservation: Reservation, *, now: float) -> bool:
        """Book a peer's decision. Repeated, late and unknown ones, and our own, change nothing, and return False."""
        is_new = self._reserve(reservation, now=now)
        if is_new:
            self.cluster.lateness.decided(by_another=True)
        return is_new

    def _reserve(self, reservation: Reservation, *, now: float, late_s: float = 0.0) -> bool:
        self._fade(now=now)
        cluster = self.cluster
        answer_tokens = cluster.answers.expected_tokens(reservation.request)
        if not cluster.load.reserve(reservation, answer_tokens=answer_tokens, now=now, late_s=late_s):
            return False
        last_uses = cluster.holders.last_uses(reservation.replica_id, reservation.request.block_hashes)
        self._last_uses[reservation.request.request_id] = last_uses
        cluster.tiers.on_reserved(
            reservation.request.request_id, reservation.replica_id, reservation.request.block_hashes
        )
        placed = Placed(cluster.load.stored(cluster.load.work(reservation)), cluster.load.mean_stored_tokens)
        cluster.holders.insert(
            reservation.replica_id,
            reservation.request.block_hashes,
            used_by=reservation.request.request_id,
            placed=placed,
        )
        self.policy.on_reserved(reservation)
        for shadow in self.shadows:
            shadow.on_reserved(reservation)
        return True

    def on_arrived(self, request_id: RequestId, replica_id: ReplicaId, *, now: float, waited_s: float = 0.0) -> None:
        """The request reached a replica, which waited so long until it told that; where that is not the one it was sent
        to, it is booked anew there.
        """
        reservation = self.cluster.load.reservation(request_id)
        if reservation is None:
            return
        if reservation.replica_id != replica_id:
            self.health.connection_failed(reservation.replica_id, now=now)
            uncomputed = self.cluster.load.withdraw(request_id)
            if not self._keep_stored(reservation):
                self._discard_uncomputed(uncomputed)
            self.cluster.holders.end_use(reservation.replica_id, request_id)
            self._last_uses.pop(request_id, None)
            if not self._book_at(replica_id, reservation.request, now=now):
                self._known.pop(request_id, None)
        delay_s = self.cluster.load.arrived(request_id, now=now)
        if delay_s is not None and request_id in self._known:
            self.cluster.lateness.told(delay_s=max(0.0, delay_s - waited_s))

    def on_outstanding(
        self, replica_id: ReplicaId, request_to_prefilled_tokens: Mapping[RequestId, int], *, now: float
    ) -> None:
        """A replica's own list of the requests it has, each with its prompt tokens that had a first output.

        One that it had, or should have, and does not list is over. A first token that we did not hear of is made up
        for, except for the cached tokens that it would have told.
        """
        load = self.cluster.load
        for request_id in load.lost(replica_id, request_to_prefilled_tokens.keys(), now=now):
            self.on_finished(request_id, now=now)
        for request_id, missed_tokens in load.missed(replica_id, request_to_prefilled_tokens):
            self._hold_computed(load.prefilled(request_id, prompt_tokens=missed_tokens, now=now))

    def set_parity(self, replica_id: ReplicaId, *, is_known: bool) -> None:
        """Whether a replica is known to find prompts by the keys that are used here; so it is until told otherwise.

        While it is not, what it is believed to hold is kept and goes on being kept, but neither counts nor is corrected
        by what its engine reuses. Unknown replicas are ignored.
        """
        cluster = self.cluster
        if replica_id in cluster.load:
            cluster.distrust(cluster.untrusted - {replica_id} if is_known else cluster.untrusted | {replica_id})

    def on_heard(self, replica_id: ReplicaId, *, is_serving: bool, now: float) -> None:
        """A replica spoke, and said whether it can serve."""
        self.health.heard(replica_id, is_serving=is_serving, now=now)

    def on_engine_load(self, replica_id: ReplicaId, load: EngineLoad) -> None:
        """An engine's own numbers, as of now. Unknown replicas are ignored."""
        if replica_id in self.cluster.load:
            self.cluster.load.set_engine(replica_id, load)

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
        """A first token: the engine has `prompt_tokens` for this request, of which it reused `cached_tokens`, and of
        these `external_cached_tokens` from its second tier.

        If it did not look into its cache, as the request wanted it, that says nothing of what it holds. Returns the
        prompt's record, if the request was decided here.
        """
        record = self._record(request_id, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens)
        booked = self.cluster.load.reservation(request_id)
        if booked is not None and is_looked_up:
            self.cluster.reuse.learn(booked.replica_id, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens)
        reservation = self.cluster.load.prefilled(request_id, prompt_tokens=prompt_tokens, now=now)
        if reservation is not None:
            if is_looked_up:
                local_tokens = cached_tokens - external_cached_tokens
                self._learn_tier(reservation, local_tokens=local_tokens, external_tokens=external_cached_tokens)
                self._learn(reservation, local_tokens)
            self._hold_computed(reservation)
            self._seen.on_computed(reservation.request.block_hashes)
        return record

    def on_finished(
        self,
        request_id: RequestId,
        *,
        now: float,
        answer_tokens: int | None = None,
    ) -> None:
        """The request ended, also by error or disconnect. Without a first token, its prefix was never held.

        Otherwise its blocks were in use until now, and can be evicted from now on, as the last that were used. The
        answer's tokens are those that its engine generated, of all choices together; None where nobody knows.
        """
        self._known.pop(request_id, None)
        self._last_uses.pop(request_id, None)
        self.cluster.tiers.expected_blocks(request_id)  # nothing is any more
        reservation = self.cluster.load.reservation(request_id)
        uncomputed = self.cluster.load.finished(request_id, now=now)
        if reservation is None:
            return
        if answer_tokens:
            request = reservation.request
            self.cluster.answers.learn(request, answer_tokens / request.num_sequences)
        if not self._keep_stored(reservation):
            if uncomputed is None:
                self._hold_answer(reservation, answer_tokens or 0)
            else:
                self._discard_uncomputed(uncomputed)
        self.cluster.holders.end_use(reservation.replica_id, request_id)

    def on_caches_reset(self) -> None:
        """Every engine dropped its cached prefixes. One whose replica is exact tells so itself, if it could. Second
        tiers keep theirs: vLLM resets its cache without them.
        """
        for replica in self.cluster.replicas:
            self._seen.on_gone(self.cluster.holders.export(replica.replica_id))
        self.cluster.holders.clear()

    def on_blocks_stored(
        self, replica_id: ReplicaId, parent: BlockHash | None, block_hashes: Sequence[BlockHash]
    ) -> None:
        """KV event: an engine has a chain of full blocks on top of `parent`, or from the start if that is None.

        KV events change nothing unless the replica is exact, so that they need not be held back for one that is not. A
        block may be stored several times; it is there until it was removed as often. One whose parent is not there
        cannot be reused, and is held from when the parent is.
        """
        self.cluster.holders.store(replica_id, parent, block_hashes)

    def on_blocks_removed(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """KV event: an engine evicted blocks; those of one message together are cheaper than one by one.

        Unknown ones are ignored. What builds on an evicted block is not held either, until the block is back.
        """
        if self.cluster.holders.is_exact(replica_id):
            self.cluster.holders.remove(replica_id, block_hashes, self.cluster.load.prompts(replica_id))

    def on_blocks_cleared(self, replica_id: ReplicaId) -> None:
        """KV event, or a stream's beginning: an engine has no blocks now, and all its events will be told from here on.

        The replica is exact from now on: nothing is believed of it but what its engine stored and did not remove, and
        what was sent there and is not over. A snapshot is this and then the blocks.
        """
        if replica_id in self.cluster.load:
            self._seen.on_gone(self.cluster.holders.export(replica_id))
            self.cluster.holders.begin_exact(replica_id, self.cluster.load.request_to_prompt(replica_id))

    def on_events_lost(self, replica_id: ReplicaId) -> None:
        """An engine's events are missing, or come no more. Until it is cleared, its replica is believed in by receipts.

        What it was known to hold is where that belief starts.
        """
        self.cluster.holders.end_exact(replica_id)

    def hot_prefixes(self, limit: int) -> list[HotPrefix]:
        """Where most recent work began alike, the most first; at most `limit`."""
        return self.cluster.holders.hot_prefixes(limit, total_work=self.cluster.load.total.stored_recent_tokens)

    def prefixes_for(self, rank: int, limit: int) -> list[HotPrefix]:
        """Of the hottest prefixes, at most `limit`, those that a replica of this rank will be sent prompts for, if it
        joins: of the ones that are for some replicas, those on whose stretch of the ring it will be.
        """
        num_members = len(self.cluster.replicas)
        ring = Ring({rank, *(each.rank for each in self.cluster.replicas)}, virtual_nodes=self._virtual_nodes)
        return [
            prefix
            for prefix in self.hot_prefixes(limit)
            if prefix.fan_out >= num_members or rank in islice(ring.successors(prefix.block_hash), prefix.fan_out)
        ]

    def places_of(self, prompts: Sequence[Sequence[BlockHash]]) -> list[ReplicaId]:
        """Who shall have these prompts, each of at least a block, when nobody has: for each the first on the ring that
        has not got more than its share of them.

        Raises:
            NoReplicasError: no replica is known.

        """
        cluster = self.cluster
        if not cluster.eligible:
            raise NoReplicasError
        mean_blocks = sum(map(len, prompts)) / len(cluster.eligible)
        limit_blocks = bound(mean_blocks, load_factor=PLACES_LOAD_FACTOR, margin_tokens=0)
        replica_to_blocks: Counter[ReplicaId] = Counter()
        places = []
        for prompt in prompts:
            in_order = cluster.in_ring_order(cluster.start_key(prompt, cluster.holders.match(prompt)))
            place = next(each.replica_id for each in in_order if replica_to_blocks[each.replica_id] <= limit_blocks)
            replica_to_blocks[place] += len(prompt)
            places.append(place)
        return places

    def on_warmed(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """A replica has computed a prefix by itself, so as to have it in time. Unknown ones are ignored, and exact ones
        have said so already.
        """
        holders = self.cluster.holders
        self.cluster.tiers.on_computed(replica_id, block_hashes)
        if replica_id in self.cluster.load and not holders.is_exact(replica_id):
            holders.insert(replica_id, block_hashes)
            self._seen.on_computed(block_hashes)

    def expire(self, *, now: float) -> int:
        """Give up on reservations without a sign of life for too long; returns how many."""
        expired = self.cluster.load.expired(now=now)
        for request_id in expired:
            self.on_finished(request_id, now=now)
        return len(expired)

    def export(self, replica_id: ReplicaId, *, now: float) -> ReplicaState | None:
        """All this router believes of a replica and has booked there, for one that joins; None if it is unknown."""
        load = self.cluster.load
        if replica_id not in load:
            return None
        return ReplicaState(
            replica_id,
            held=self.cluster.holders.export(replica_id),
            booked=load.export(replica_id),
            recent_tokens=load[replica_id].recent_tokens,
            recent_requests=load[replica_id].recent_requests,
            progress=load.export_progress(replica_id, now=now),
            held_in_tier=self.cluster.tiers.export(replica_id),
            engine=load[replica_id].engine,
            computed_since_tokens=load[replica_id].computed_since_tokens,
            learned=self._export_learned(replica_id),
        )

    def _export_learned(self, replica_id: ReplicaId) -> LearnedState:
        """With its part of the classes of answers, so that each is sent once."""
        cluster = self.cluster
        part = next(index for index, each in enumerate(cluster.replicas) if each.replica_id == replica_id)
        return LearnedState(
            cluster.answers.of_all,
            cluster.answers.export_classes(part, num_parts=len(cluster.replicas)),
            continued_tokens=cluster.continuations.expected_tokens,
            found_tokens=cluster.continuations.found_tokens,
            others_share=cluster.lateness.others_share,
            delay_s=cluster.lateness.delay_s,
        )

    def adopt(self, state: ReplicaState, *, now: float) -> None:
        """Believe and book what a peer does, beside what is known here. Unknown replicas are ignored."""
        if state.replica_id not in self.cluster.load:
            return
        self._fade(now=now)
        load, holders = self.cluster.load, self.cluster.holders
        own = load[state.replica_id]
        recent_tokens = max(own.recent_tokens, state.recent_tokens)
        recent_requests = max(own.recent_requests, state.recent_requests)
        if state.learned is not None:
            self._adopt_learned(state.learned)
        for booked in state.booked:
            answer_tokens = booked.answer_tokens
            if answer_tokens is None:
                answer_tokens = self.cluster.answers.expected_tokens(booked.reservation.request)
            load.adopt(booked, answer_tokens=answer_tokens, now=now)
        if holders.is_exact(state.replica_id):
            for booked in state.booked:
                self._hold_computed(load.reservation(booked.reservation.request.request_id))
        else:
            holders.adopt(state.replica_id, state.held, load.request_to_prompt(state.replica_id))
        self.cluster.tiers.adopt(state.replica_id, state.held_in_tier)
        load.adopt_progress(state.replica_id, state.progress, now=now)
        load.adopt_engine(state.replica_id, state.engine, computed_since_tokens=state.computed_since_tokens)
        # Of the recent work, what was booked is a part.
        load.add_recent(
            state.replica_id,
            tokens=recent_tokens - own.recent_tokens,
            requests=recent_requests - own.recent_requests,
        )

    def _adopt_learned(self, learned: LearnedState) -> None:
        cluster = self.cluster
        cluster.answers.adopt(learned.answers, learned.answer_classes)
        cluster.continuations.adopt(expected_tokens=learned.continued_tokens, found_tokens=learned.found_tokens)
        cluster.lateness.adopt(others_share=learned.others_share, delay_s=learned.delay_s)

    def _stored(self, request: RouteRequest) -> Choice | None:
        """The replica that alone can serve this request, in the choice or not; None if any could, or it is gone."""
        holder = self._member(request.stored_at)
        return None if holder is None else Choice(holder, Reason.STORED)

    def _member(self, replica_id: ReplicaId | None) -> Replica | None:
        return next((each for each in self.cluster.replicas if each.replica_id == replica_id), None)

    def _fade(self, *, now: float) -> None:
        factor = self.cluster.load.fade(now=now)
        if factor is not None:
            self.cluster.holders.scale_work(factor)

    def _remove(self, replica_id: ReplicaId) -> None:
        cluster = self.cluster
        self._seen.on_gone(cluster.holders.export(replica_id))
        self.health.remove_replica(replica_id)
        cluster.load.remove_replica(replica_id)
        cluster.holders.remove_replica(replica_id)
        cluster.reuse.forget(replica_id)
        cluster.tiers.remove(replica_id)
        self._missing.forget(replica_id)
        cluster.distrust(cluster.untrusted - {replica_id})
        self._known = self._outstanding(self._known)
        self._last_uses = self._outstanding(self._last_uses)

    def _outstanding(self, request_to_value: Mapping[RequestId, Value]) -> dict[RequestId, Value]:
        return {each: value for each, value in request_to_value.items() if self.cluster.load.reservation(each)}

    def _know(self, request: RouteRequest, match: PrefixMatch, best_blocks: int) -> Known:
        memory = self._seen.match(request.block_hashes)
        gone_blocks = max(match.held_blocks, memory.gone_blocks)
        return Known(best_blocks, gone_blocks, memory.seen_blocks, memory.shared_blocks)

    def _record(self, request_id: RequestId, *, prompt_tokens: int, cached_tokens: int) -> CacheRecord | None:
        known, reservation = self._known.get(request_id), self.cluster.load.reservation(request_id)
        if known is None or reservation is None:
            return None
        return make_record(
            reservation,
            known,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            block_size=self.cluster.block_size,
        )

    def _claim(self, request: RouteRequest, replica: Replica) -> Reservation:
        cluster = self.cluster
        held = cluster.holders.held(replica.replica_id, request.block_hashes)
        cached = cluster.cached_of(replica, request, held)
        return Reservation(
            request=request,
            replica_id=replica.replica_id,
            num_held_blocks=held.num_blocks,
            is_computed=cluster.load_of(replica).num_waiting == 0,
            pending_tokens=request.num_prompt_tokens - cached.total,
            external_tokens=cached.external,
            answer_tokens=cluster.answer_tokens(replica, request, held),
        )

    def _book_at(self, replica_id: ReplicaId, request: RouteRequest, *, now: float) -> bool:
        replica = self._member(replica_id)
        return replica is not None and self._reserve(self._claim(request, replica), now=now)

    def _learn_tier(self, reservation: Reservation, *, local_tokens: int, external_tokens: int) -> None:
        """From a completed prefill, what comes from the replica's second tier. Also of a doubted one: what came from
        there was found, and what is expected is only what was computed there.
        """
        tiers, replica_id, request = self.cluster.tiers, reservation.replica_id, reservation.request
        if external_tokens and not tiers.is_proven(replica_id):
            tiers.prove(replica_id, self.cluster.holders.export(replica_id))
        num_expected_blocks = tiers.expected_blocks(request.request_id)
        expected_tokens = max(0, self.cluster.reusable_tokens(request, num_expected_blocks) - local_tokens)
        tiers.learn(replica_id, expected_tokens=expected_tokens, external_tokens=external_tokens)

    def _learn(self, reservation: Reservation, local_tokens: int) -> None:
        """From a completed prefill, of which so much came from the replica's own cache. What a doubted engine reused
        says nothing of what it holds.
        """
        is_doubted = reservation.replica_id in self.cluster.untrusted
        if reservation.answer_tokens and not is_doubted:
            held_tokens = self.cluster.reusable_tokens(reservation.request, reservation.num_held_blocks)
            self.cluster.continuations.learn(
                expected_tokens=reservation.answer_tokens, found_tokens=max(0, local_tokens - held_tokens)
            )
        is_exact = self.cluster.holders.is_exact(reservation.replica_id)
        if reservation.is_computed and not is_exact and not is_doubted:
            self._correct(reservation, local_tokens)

    def _hold_computed(self, reservation: Reservation | None) -> None:
        """What a completed prefill left is held, and in use until the request is over."""
        if reservation is not None:
            self.cluster.tiers.on_computed(reservation.replica_id, reservation.request.block_hashes)
            self.cluster.holders.insert(
                reservation.replica_id, reservation.request.block_hashes, used_by=reservation.request.request_id
            )

    def _hold_answer(self, reservation: Reservation, answer_tokens: int) -> None:
        """A prompt and its answer are held. An answer's last token is never computed."""
        request, block_size = reservation.request, self.cluster.block_size
        num_tokens = request.num_prompt_tokens + max(0, answer_tokens - 1)
        num_answer_blocks = num_tokens // block_size - len(request.block_hashes)
        self.cluster.holders.insert_answer(
            reservation.replica_id, request.block_hashes, unknown_hashes(request.request_id, num_answer_blocks)
        )

    def _discard_uncomputed(self, reservation: Reservation | None) -> None:
        """What a reservation promised and was never computed is not held, unless another one promises it too."""
        if reservation is not None:
            self.cluster.holders.discard_after(
                reservation.replica_id,
                reservation.request.block_hashes,
                num_kept=reservation.num_held_blocks,
                used_by=reservation.request.request_id,
            )

    def _keep_stored(self, reservation: Reservation | None) -> bool:
        """Of a request that is over or elsewhere, an exact replica holds what its engine stored of it.

        Returns False if the replica is not exact.
        """
        if reservation is None or not self.cluster.holders.is_exact(reservation.replica_id):
            return False
        self.cluster.holders.keep_stored(
            reservation.replica_id,
            reservation.request.block_hashes,
            used_by=reservation.request.request_id,
        )
        return True

    def _correct(self, reservation: Reservation, cached_tokens: int) -> None:
        """Where the engine reused less than we believed, it has evicted what we did not; catch up with it. What came
        from another tier was not there.
        """
        replica_id, block_size = reservation.replica_id, self.cluster.block_size
        last_uses = self._last_uses.get(reservation.request.request_id)
        if last_uses is None:
            return
        held_blocks = last_uses.held_blocks
        believed_tokens = cacheable_tokens(
            reservation.request.num_prompt_tokens, num_blocks=held_blocks, block_size=block_size
        )
        num_lost_blocks = max(0, believed_tokens - cached_tokens) // block_size
        num_found_blocks = cached_tokens // block_size if num_lost_blocks else held_blocks
        gone_before = self._missing.gone_before(replica_id, last_uses, num_found_blocks=num_found_blocks)
        if gone_before is not None:
            self.cluster.holders.evict_before(replica_id, gone_before)

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        load = self.cluster.load
        load.check_integrity()
        self.cluster.holders.check_integrity()
        self._seen.check_integrity()
        self.cluster.tiers.check_integrity()
        for request_to in (self._known, self._last_uses, self.cluster.tiers.expecting):
            assert all(load.reservation(each) is not None for each in request_to), "known of requests that are over"
        for replica in self.cluster.replicas:
            if self.cluster.holders.is_exact(replica.replica_id):
                self.cluster.holders.check_exact(replica.replica_id, load.prompts(replica.replica_id))

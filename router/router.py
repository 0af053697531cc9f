"""The router: keeps the cluster's state, asks the policy, and books what it decided.

Driven from outside: `set_replicas`, `choose`, then what the replicas and the other routers report.
Ray Serve, the simulator and the tests all drive this same object.
"""

from collections.abc import Iterable
from typing import NamedTuple

from router.blocks import cacheable_tokens
from router.cluster import Cluster
from router.errors import NoReplicasError
from router.holders import Holders
from router.load import LoadBook
from router.policies.policy import Policy
from router.ring import Ring
from router.types import Replica, RequestId, Reservation, RouteRequest, RoutingDecision


class Routed(NamedTuple):
    """A decision, and the reservation by which the other routers learn of it."""

    decision: RoutingDecision
    reservation: Reservation


class Router:
    """One process's router. Its load and beliefs are its own view, repaired by receipts and by its peers.

    Args:
        policy: chooses the replica; may be replaced while running.
        block_size: tokens in a routing block.
        virtual_nodes: points of each rank on the ring.
        half_life_s: how fast the memory of recent work fades.
        answer_tokens: the work that a request's answer is, in prefill tokens.
        arrival_ttl_s: how long a decision counts as load while its request has not reached the replica.
        reservation_ttl_s: how long it counts afterwards, without any further receipt.
        num_remembered: ended requests remembered, to recognise reservations that arrive late.

    """

    def __init__(
        self,
        *,
        policy: Policy,
        block_size: int,
        virtual_nodes: int,
        half_life_s: float,
        answer_tokens: int,
        arrival_ttl_s: float,
        reservation_ttl_s: float,
        num_remembered: int,
    ) -> None:
        self.policy = policy
        self._virtual_nodes = virtual_nodes
        self.cluster = Cluster(
            replicas=(),
            load=LoadBook(
                half_life_s=half_life_s,
                answer_tokens=answer_tokens,
                arrival_ttl_s=arrival_ttl_s,
                ttl_s=reservation_ttl_s,
                num_remembered=num_remembered,
            ),
            holders=Holders(),
            ring=Ring((), virtual_nodes=virtual_nodes),
            block_size=block_size,
        )

    def set_replicas(self, replicas: Iterable[Replica]) -> None:
        """Replace the set of replicas. Load and beliefs of those that stay are kept."""
        cluster = self.cluster
        new = tuple(sorted(replicas, key=lambda replica: (replica.rank, replica.replica_id)))
        kept_ids = {replica.replica_id for replica in new}
        for replica in cluster.replicas:
            if replica.replica_id not in kept_ids:
                cluster.load.remove_replica(replica.replica_id)
                cluster.holders.remove_replica(replica.replica_id)
        for replica in new:
            cluster.load.add_replica(replica.replica_id)
            capacity_blocks = replica.kv_capacity_tokens // cluster.block_size
            cluster.holders.add_replica(replica.replica_id, capacity_blocks=capacity_blocks)
        cluster.replicas = new
        cluster.ring = Ring({replica.rank for replica in new}, virtual_nodes=self._virtual_nodes)

    def choose(self, request: RouteRequest, *, now: float) -> Routed:
        """Place a request and book it.

        Raises:
            NoReplicasError: no replica is known.

        """
        cluster = self.cluster
        if not cluster.replicas:
            raise NoReplicasError
        self.expire(now=now)
        cluster.load.fade(now=now)
        chosen = self.policy.choose(request, cluster)
        cached_at = {replica.replica_id: cluster.cached_tokens(replica, request) for replica in cluster.replicas}
        cached = cached_at[chosen.replica.replica_id]
        decision = RoutingDecision(
            request_id=request.request_id,
            replica_id=chosen.replica.replica_id,
            policy=self.policy.name,
            reason=chosen.reason,
            num_prompt_tokens=request.num_prompt_tokens,
            believed_cached_tokens=cached,
            best_cached_tokens=max(cached_at.values()),
        )
        reservation = Reservation(
            request=request,
            replica_id=decision.replica_id,
            num_held_blocks=cluster.holders.matched_blocks(decision.replica_id, request.block_hashes),
            is_computed=cluster.load_of(chosen.replica).num_waiting == 0,
            pending_tokens=request.num_prompt_tokens - cached,
        )
        self.on_reserved(reservation, now=now)
        return Routed(decision, reservation)

    def on_reserved(self, reservation: Reservation, *, now: float) -> None:
        """Book a decision, our own or a peer's. Repeated, late and unknown ones change nothing."""
        if self.cluster.load.reserve(reservation, now=now):
            self.cluster.holders.insert(reservation.replica_id, reservation.request.block_hashes)
            self.cluster.holders.count_prompt(reservation.replica_id, reservation.request.block_hashes)

    def on_arrived(self, request_id: RequestId, *, now: float) -> None:
        """The request reached its replica."""
        self.cluster.load.arrived(request_id, now=now)

    def on_prefilled(self, request_id: RequestId, *, prompt_tokens: int, cached_tokens: int, now: float) -> None:
        """A first token: the engine has `prompt_tokens` for this request, of which it reused `cached_tokens`."""
        reservation = self.cluster.load.prefilled(request_id, prompt_tokens=prompt_tokens, now=now)
        if reservation is None:
            return
        if reservation.is_computed:
            self._correct(reservation, cached_tokens)
        self.cluster.holders.insert(reservation.replica_id, reservation.request.block_hashes)

    def on_finished(self, request_id: RequestId) -> None:
        """The request ended, also by error or disconnect. Without a first token, its prefix was never held."""
        reservation = self.cluster.load.finished(request_id)
        if reservation is not None:
            self.cluster.holders.discard_after(
                reservation.replica_id, reservation.request.block_hashes, num_kept=reservation.num_held_blocks
            )

    def on_caches_reset(self) -> None:
        """Every engine dropped its cached prefixes."""
        self.cluster.holders.clear()

    def expire(self, *, now: float) -> int:
        """Give up on reservations without a sign of life for too long; returns how many."""
        expired = self.cluster.load.expired(now=now)
        for request_id in expired:
            self.on_finished(request_id)
        return len(expired)

    def _correct(self, reservation: Reservation, cached_tokens: int) -> None:
        """Where the engine reused less than we believed, it evicts earlier than we do; catch up with it.

        It evicts what was used longest ago, so that is what we stop believing in.
        """
        believed_tokens = cacheable_tokens(
            reservation.request.num_prompt_tokens,
            num_blocks=reservation.num_held_blocks,
            block_size=self.cluster.block_size,
        )
        num_lost_blocks = max(0, believed_tokens - cached_tokens) // self.cluster.block_size
        self.cluster.holders.evict_oldest(reservation.replica_id, num_lost_blocks)

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        self.cluster.load.check_integrity()
        self.cluster.holders.check_integrity()

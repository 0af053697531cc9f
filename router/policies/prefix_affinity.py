"""Our policy: the replica at which a request costs everyone the least time (`request_cost.py`)."""

import math
from collections.abc import Collection, Iterable
from itertools import islice

from router.belief.match import PrefixMatch
from router.cluster import Cluster
from router.policies.policy import Choice, Unlearning
from router.policies.request_cost import CostWeights, RequestCost
from router.policies.ring_prior import cheapest, ring_key
from router.types import Reason, Replica, ReplicaId, RouteRequest

NUM_HOLDERS = 8
NUM_SUCCESSORS = 3
NUM_LEAST_LOADED = 8
"""Candidates of each kind, at most, so that the time of a decision does not grow with the cluster."""


class PrefixAffinity(Unlearning):
    """The cheapest of the prompt's holders, its first places on the ring, and the least loaded replicas."""

    name = "prefix_affinity"

    def __init__(self, weights: CostWeights | None = None) -> None:
        self._weights = weights or CostWeights()

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The cheapest candidate; among equal costs, the first one in ring order."""
        match = cluster.match(request.block_hashes)
        key = ring_key(request, match, cluster)
        successors = [] if key is None else list(islice(cluster.in_ring_order(key), NUM_SUCCESSORS))
        cost = RequestCost(
            request,
            cluster,
            shared_blocks=match.shared_blocks,
            weights=self._weights,
            session_owner=successors[0] if successors and not request.block_hashes else None,
        )
        near_s = self._weights.tie_s + self._weights.unseen * cluster.unseen_s
        candidates = _Candidates(cost, cluster, near_s=near_s)
        candidates.add_holders(match)
        candidates.add(successors, NUM_SUCCESSORS)
        candidates.add(cluster.eligible_of(cluster.load.least_loaded_first), NUM_LEAST_LOADED)
        chosen = cheapest(candidates.near, near_s, key, cluster)
        if not request.block_hashes:
            return Choice(chosen, Reason.NO_KEY)
        return Choice(chosen, _reason(chosen, successors[0], match, cluster))


class _Candidates:
    """The replicas that are compared. The cost is not worked out where a lower bound of it is too high already.

    Args:
        cost: the cost of the request.
        cluster: the state on which the decision is made.
        near_s: candidates whose cost exceeds the least by more are of no interest, in seconds.

    """

    def __init__(self, cost: RequestCost, cluster: Cluster, *, near_s: float) -> None:
        self._cost = cost
        self._cluster = cluster
        self._near_s = near_s
        self._costs: list[tuple[Replica, float]] = []
        self._examined: set[ReplicaId] = set()
        self._least_cost = math.inf
        self._least_speed = 1.0
        self._least_prefill_s = 0.0
        """Shortest prefill at the replicas that are not examined yet, in seconds at the model's speed."""
        self._least_weighted_s = 0.0
        """The same, with the smallest possible weight of a token."""

    @property
    def near(self) -> list[tuple[Replica, float]]:
        """The cheapest candidate and those near it, each with its cost, in no order that matters."""
        return [candidate for candidate in self._costs if candidate[1] <= self._least_cost + self._near_s]

    def add(self, replicas: Iterable[Replica], num: int) -> None:
        """Examine the first `num` of these replicas."""
        for replica in islice(replicas, num):
            if replica.replica_id not in self._examined:
                self._examine(replica)

    def add_holders(self, match: PrefixMatch) -> None:
        """Examine the prompt's holders, from the longest cached prefix on, while a shorter one can still be cheaper."""
        known: Collection[ReplicaId] = ()
        for step in reversed(match.steps):
            holders = step.run.holder_to_use.keys()
            if holders == known:
                continue  # as a rule, the holders of a run hold the runs before it
            if known:
                self._bound_others(step.end)
            num_left = NUM_HOLDERS - len(self._examined)
            if num_left <= 0 or self._least_weighted_s > (self._least_cost + self._near_s) * self._least_speed:
                return
            known = holders
            self.add(_trusted(_least_loaded(holders, self._cluster), self._cluster), num_left)
            if len(holders) > num_left:
                return
        if known:
            self._bound_others(0)

    def _bound_others(self, cached_blocks: int) -> None:
        """The replicas that are not examined yet have at most this number of leading blocks cached."""
        if not self._cluster.untrusted and not self._cluster.tiers.any_proven:
            self._least_prefill_s, self._least_weighted_s = self._cost.least_prefill_s(cached_blocks)

    def _examine(self, replica: Replica) -> None:
        """Work out the cost of a replica, unless its queue and the prefill alone cost too much."""
        self._examined.add(replica.replica_id)
        remaining_s, speed = self._cluster.remaining_s(replica), self._cluster.load.speed(replica.replica_id)
        least_wait_s = self._cost.wait_s(replica, remaining_s, self._least_prefill_s)
        if least_wait_s + self._least_weighted_s / speed > self._least_cost + self._near_s:
            return
        cost = self._cost.at(replica, remaining_s=remaining_s, speed=speed)
        self._costs.append((replica, cost))
        if cost < self._least_cost:
            self._least_cost, self._least_speed = cost, speed


def _trusted(holders: Iterable[ReplicaId], cluster: Cluster) -> Iterable[Replica]:
    return (cluster.trusted[replica_id] for replica_id in holders if replica_id in cluster.trusted)


def _least_loaded(holders: Collection[ReplicaId], cluster: Cluster) -> Iterable[ReplicaId]:
    """The holders of a run, the least loaded first where they are too many to examine all."""
    if len(holders) <= NUM_HOLDERS:
        return holders
    if len(holders) ** 2 <= NUM_HOLDERS * len(cluster.replicas):  # few: sorting them is cheaper than finding them
        return sorted(holders, key=lambda replica_id: cluster.load[replica_id].pending_tokens)
    return (replica_id for replica_id in cluster.load.least_loaded_first if replica_id in holders)


def _reason(chosen: Replica, owner: Replica, match: PrefixMatch, cluster: Cluster) -> Reason:
    best_blocks = match.best_blocks(cluster.trusted)
    if best_blocks and (chosen.replica_id in cluster.untrusted or match.blocks_at(chosen.replica_id) < best_blocks):
        return Reason.SPILL
    if match.blocks_at_all(len(cluster.replicas)) < best_blocks:
        return Reason.PREFIX
    return Reason.RING if chosen == owner else Reason.SPILL

"""Our policy: the replica on which the prompt costs least, in prefill tokens, everything counted.

cost = pending prefill tokens there
     + weight * (prompt tokens - tokens believed cached there)
     + decode_tokens * requests being decoded there

weight > 1 because recomputing a prefix twice also evicts something later, and because, past
saturation, extra work delays everybody queued behind it: weight = base + per_waiting * (mean waiting
requests a replica). Constants measured by replay of the Mooncake conversation trace.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from router.cluster import Cluster
from router.policies.baselines import LeastLoaded
from router.policies.policy import Choice
from router.ring import within_bound
from router.types import Reason, Replica, ReplicaId, RouteRequest


@dataclass(frozen=True, slots=True)
class PrefixAffinityOptions:
    """The numbers of the cost rule and of its candidates."""

    weight_base: float
    """Cost of a prefill token computed for this request, in pending tokens."""
    weight_per_waiting: float
    """Added to the weight for each waiting request that a replica has on average."""
    decode_tokens: int
    """Cost of a request being decoded there, in pending tokens."""
    ring_candidates: int
    """How many ring successors of the key are considered."""
    load_factor: float
    """A replica above this multiple of the mean load is skipped, ..."""
    load_margin_tokens: int
    """... if it is also this far above the mean, in pending prefill tokens."""


class PrefixAffinity:
    """Affinity to the cached prefix, bounded load, and the ring where belief does not decide.

    Requests whose key is unknown go to the `fallback`'s least loaded replica.
    """

    name = "prefix_affinity"

    def __init__(self, options: PrefixAffinityOptions, *, fallback: LeastLoaded) -> None:
        self._options = options
        self._fallback = fallback

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The cheapest candidate; equal cost goes to the first in ring order."""
        if not request.block_hashes:
            return Choice(self._fallback.least_loaded(cluster), Reason.NO_KEY)
        cached = [cluster.cached_tokens(replica, request) for replica in cluster.replicas]
        cached_at = {replica.replica_id: tokens for replica, tokens in zip(cluster.replicas, cached, strict=True)}
        in_ring_order = cluster.in_ring_order(request, cached)
        deepest = max(cached)
        weight = self._weight(cluster)

        def cost(replica: Replica) -> float:
            load = cluster.load_of(replica)
            uncached_tokens = request.num_prompt_tokens - cached_at[replica.replica_id]
            return load.pending_tokens + weight * uncached_tokens + self._options.decode_tokens * load.num_running

        candidates = self._candidates(cluster, in_ring_order, cached_at, deepest)
        chosen = min(candidates, key=cost)
        return Choice(chosen, self._reason(chosen, in_ring_order[0], cached_at[chosen.replica_id], cached))

    def _candidates(
        self, cluster: Cluster, in_ring_order: Sequence[Replica], cached_at: dict[ReplicaId, int], deepest: int
    ) -> list[Replica]:
        """Deepest holders, first ring successors and the least loaded, without the overloaded; in ring order."""
        pending = {replica.replica_id: cluster.load_of(replica).pending_tokens for replica in in_ring_order}
        mean_tokens = sum(pending.values()) / len(pending)
        least_tokens = min(pending.values())
        return [
            replica
            for position, replica in enumerate(in_ring_order)
            if (
                position < self._options.ring_candidates
                or (deepest and cached_at[replica.replica_id] == deepest)
                or pending[replica.replica_id] == least_tokens
            )
            and within_bound(
                pending[replica.replica_id],
                mean_load_tokens=mean_tokens,
                load_factor=self._options.load_factor,
                margin_tokens=self._options.load_margin_tokens,
            )
        ]

    def _weight(self, cluster: Cluster) -> float:
        num_waiting = sum(cluster.load_of(replica).num_waiting for replica in cluster.replicas)
        return self._options.weight_base + self._options.weight_per_waiting * num_waiting / len(cluster.replicas)

    @staticmethod
    def _reason(chosen: Replica, owner: Replica, chosen_cached: int, cached: Sequence[int]) -> Reason:
        if chosen_cached < max(cached):
            return Reason.SPILL
        if min(cached) < max(cached):
            return Reason.PREFIX
        return Reason.RING if chosen == owner else Reason.SPILL

"""Our policy: the replica on which the prompt costs least, in prefill tokens, everything counted.

cost = pending prefill tokens there
     + weight * (prompt tokens - tokens believed cached there)
     + decode_tokens * requests being decoded there

weight > 1, because a prefix computed twice also evicts something later, and because, past saturation,
extra work delays everybody queued behind it: weight = base + per_waiting * (mean waiting requests a
replica). Both constants were measured by replay of the Mooncake conversation trace.

The cost looks one request ahead, and a conversation has many. So where a conversation *starts* is
bounded by load: a replica that got more than its share of recent work is no candidate, even if it
alone holds the prefix that the conversation shares with others. Without that, a system prompt which
everybody shares sends everybody to the replica that saw it first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from router.cluster import Cluster
from router.policies.baselines import LeastLoaded
from router.policies.policy import Choice
from router.ring import within_bound
from router.types import Reason, Replica, RouteRequest


@dataclass(frozen=True, slots=True)
class PrefixAffinityOptions:
    """The numbers of the cost rule and of its candidates."""

    weight_base: float
    """Cost of a prefill token computed for this request, in pending tokens."""
    weight_per_waiting: float
    """Added to the weight for each waiting request that a replica has on average."""
    decode_tokens: int
    """How much a request being decoded there delays a prefill, in tokens."""
    load_factor: float
    """No conversation starts where recent work exceeds this multiple of the mean ..."""
    load_margin_tokens: int
    """... and is also this far above it, in prefill tokens."""


class PrefixAffinity:
    """Affinity to the cached prefix, bounded load, and the ring where neither decides.

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
        candidates = in_ring_order
        if _starts_conversation(request, cluster, cached):
            candidates = self._within_bound(cluster, in_ring_order)
        weight = self._weight(cluster)

        def cost(replica: Replica) -> float:
            load = cluster.load_of(replica)
            uncached_tokens = request.num_prompt_tokens - cached_at[replica.replica_id]
            return load.pending_tokens + weight * uncached_tokens + self._options.decode_tokens * load.num_running

        chosen = min(candidates, key=cost)
        return Choice(chosen, _reason(chosen, in_ring_order[0], cached_at[chosen.replica_id], cached))

    def _within_bound(self, cluster: Cluster, replicas: Sequence[Replica]) -> tuple[Replica, ...]:
        loads = [cluster.load_of(replica).recent_tokens for replica in replicas]
        mean_load_tokens = sum(loads) / len(loads)
        return tuple(
            replica
            for replica, load_tokens in zip(replicas, loads, strict=True)
            if within_bound(
                load_tokens,
                mean_load_tokens=mean_load_tokens,
                load_factor=self._options.load_factor,
                margin_tokens=self._options.load_margin_tokens,
            )
        )

    def _weight(self, cluster: Cluster) -> float:
        num_waiting = sum(cluster.load_of(replica).num_waiting for replica in cluster.replicas)
        return self._options.weight_base + self._options.weight_per_waiting * num_waiting / len(cluster.replicas)


def _starts_conversation(request: RouteRequest, cluster: Cluster, cached: Sequence[int]) -> bool:
    """Whether no replica holds more of this prompt than what other conversations, wherever they are, share."""
    shared_tokens = max(cluster.shared_tokens(replica, request) for replica in cluster.replicas)
    return max(cached) <= shared_tokens


def _reason(chosen: Replica, owner: Replica, chosen_cached: int, cached: Sequence[int]) -> Reason:
    if chosen_cached < max(cached):
        return Reason.SPILL
    if min(cached) < max(cached):
        return Reason.PREFIX
    return Reason.RING if chosen == owner else Reason.SPILL

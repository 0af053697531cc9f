"""Our policy: the replica on which the prompt costs least, in prefill tokens, everything counted.

cost = remaining prefill tokens there
     + weight * (prompt tokens - tokens believed cached there)
     + decode_tokens * requests being decoded there

The first term delays this request. So does the second, and it delays others as well: whoever is sent there before the
replica has caught up, which are more the longer that takes and the more arrive meanwhile:

weight = base + per_waiting * (mean waiting requests a replica)
                            * (remaining tokens there + uncached tokens of this prompt) / (mean tokens of a request)

base > 1, because a prefix computed twice also evicts something that would have been reused. Both numbers were chosen by
replay of the Mooncake conversation trace (docs/routing.md).

The cost looks one request ahead, and a conversation has many. So where a conversation *starts* is bounded by load: a
replica that got more than its share of recent work is no candidate, even if it alone holds the prefix that the
conversation shares with others. Without that, a system prompt which everybody shares sends everybody to the replica
that saw it first.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from router.cluster import Cluster
from router.holders import PrefixMatch
from router.policies.least_loaded import LeastLoaded
from router.policies.policy import Choice, Unlearning
from router.ring import bound
from router.types import BlockHash, Reason, Replica, ReplicaId, RouteRequest

NUM_SUCCESSORS = 3
NUM_HOLDERS = 8
NUM_LEAST_LOADED = 8
"""How many candidates of each kind are looked at: the decision's cost must not grow with the cluster."""


@dataclass(frozen=True, slots=True)
class PrefixAffinityOptions:
    """The numbers of the cost rule and of its candidates."""

    weight_base: float
    """Cost of a prefill token computed for a request, in tokens of waiting, when nobody waits."""
    weight_per_waiting: float
    """Added for each waiting request a replica, where catching up takes as long as a mean request does."""
    decode_tokens: int
    """How much a request being decoded there delays a prefill, in tokens."""
    load_factor: float
    """No conversation starts where recent work exceeds this multiple of the mean ..."""
    load_margin_tokens: int
    """... and is also this far above it, in prefill tokens."""


class PrefixAffinity(Unlearning):
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
        match = cluster.holders.match(request.block_hashes)
        best_blocks = match.best_blocks(cluster.id_to_replica)
        is_start = best_blocks <= match.shared_blocks
        key = _key(request, match, cluster)
        successors = cluster.successors(key, NUM_SUCCESSORS)
        candidates = _candidates(match, cluster, successors, self._limit_tokens(cluster) if is_start else math.inf)
        weight_per_token = self._weight_per_token(cluster)

        def cost(replica: Replica) -> tuple[float, int]:
            remaining_tokens = cluster.remaining_tokens(replica)
            cached_tokens = cluster.reusable_tokens(request, match.blocks_at(replica.replica_id))
            uncached_tokens = request.num_prompt_tokens - cached_tokens
            weight = self._options.weight_base + weight_per_token * (remaining_tokens + uncached_tokens)
            decode_tokens = self._options.decode_tokens * cluster.load_of(replica).num_running
            return remaining_tokens + weight * uncached_tokens + decode_tokens, cluster.ring.distance(key, replica.rank)

        chosen = min(candidates, key=cost)
        return Choice(chosen, _reason(chosen, successors[0], match, best_blocks, cluster))

    def _limit_tokens(self, cluster: Cluster) -> float:
        return bound(
            cluster.mean_recent_tokens,
            load_factor=self._options.load_factor,
            margin_tokens=self._options.load_margin_tokens,
        )

    def _weight_per_token(self, cluster: Cluster) -> float:
        mean_tokens = cluster.mean_request_tokens
        return self._options.weight_per_waiting * cluster.mean_waiting / mean_tokens if mean_tokens else 0.0


def _key(request: RouteRequest, match: PrefixMatch, cluster: Cluster) -> BlockHash:
    """The block after what other prompts begin with too, or all replicas hold: that much says nothing of a place."""
    num_common_blocks = max(match.shared_blocks, match.blocks_at_all(len(cluster.members)))
    return request.block_hashes[min(num_common_blocks, len(request.block_hashes) - 1)]


def _candidates(
    match: PrefixMatch, cluster: Cluster, successors: Sequence[Replica], limit_tokens: float
) -> Collection[Replica]:
    """Whoever can be cheapest: who holds the most, the key's successors on the ring, and the least loaded."""
    found: dict[ReplicaId, Replica] = {}

    def add(replicas: Iterable[Replica], num: int) -> None:
        for replica in replicas:
            if cluster.load_of(replica).recent_tokens <= limit_tokens:
                found[replica.replica_id] = replica
                num -= 1
                if not num:
                    return

    add(successors, NUM_SUCCESSORS)
    for step in match.steps:
        holders: Collection[ReplicaId] = step.run.holder_to_use
        if len(holders) <= NUM_HOLDERS:
            add(cluster.in_choice(holders), NUM_HOLDERS)
        else:  # so many that the least loaded of them are found soon
            add(cluster.in_choice(each for each in cluster.load.least_loaded_first if each in holders), NUM_HOLDERS)
    add(cluster.in_choice(cluster.load.least_loaded_first), NUM_LEAST_LOADED)
    return found.values() or cluster.replicas


def _reason(chosen: Replica, owner: Replica, match: PrefixMatch, best_blocks: int, cluster: Cluster) -> Reason:
    if match.blocks_at(chosen.replica_id) < best_blocks:
        return Reason.SPILL
    if match.blocks_at_all(len(cluster.members)) < best_blocks:
        return Reason.PREFIX
    return Reason.RING if chosen == owner else Reason.SPILL

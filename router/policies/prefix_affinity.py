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

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from router.cluster import Cluster
from router.holders import PrefixMatch
from router.policies.baselines import LeastLoaded
from router.policies.policy import Choice
from router.ring import bound
from router.types import Reason, Replica, ReplicaId, RouteRequest

NUM_SUCCESSORS = 3
NUM_HOLDERS = 8
NUM_LEAST_LOADED = 8
"""How many of each kind of candidate are looked at."""


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
        match = cluster.holders.match(request.block_hashes)
        key = request.block_hashes[min(match.shared_blocks, len(request.block_hashes) - 1)]
        best_blocks = match.best_blocks(cluster.id_to_replica)
        limit_tokens = math.inf
        if best_blocks <= match.shared_blocks:  # a conversation starts
            limit_tokens = self._limit_tokens(cluster)
        successors = cluster.successors(key, NUM_SUCCESSORS)
        candidates = _candidates(match, cluster, successors, limit_tokens)
        weight = self._options.weight_base + self._options.weight_per_waiting * cluster.mean_waiting

        def cost(replica: Replica) -> tuple[float, int]:
            load = cluster.load_of(replica)
            cached_tokens = cluster.reusable_tokens(request, match.blocks_at(replica.replica_id))
            return (
                load.pending_tokens
                + weight * (request.num_prompt_tokens - cached_tokens)
                + self._options.decode_tokens * load.num_running,
                cluster.ring.distance(key, replica.rank),
            )

        chosen = min(candidates, key=cost)
        return Choice(chosen, _reason(chosen, successors[0], match, best_blocks, cluster))

    def _limit_tokens(self, cluster: Cluster) -> float:
        return bound(
            cluster.mean_recent_tokens,
            load_factor=self._options.load_factor,
            margin_tokens=self._options.load_margin_tokens,
        )


def _candidates(
    match: PrefixMatch, cluster: Cluster, successors: Sequence[Replica], limit_tokens: float
) -> Iterable[Replica]:
    """Whoever can be cheapest: holders of the most, the key's successors on the ring, and the least loaded."""
    found: dict[ReplicaId, Replica] = {}

    def add(replicas: Iterable[Replica], num: int) -> None:
        for replica in replicas:
            if num <= 0:
                return
            if cluster.load_of(replica).recent_tokens <= limit_tokens:
                found[replica.replica_id] = replica
                num -= 1

    add(successors, NUM_SUCCESSORS)
    for step in reversed(match.steps):
        holders = step.run.holder_to_use
        if len(holders) > NUM_HOLDERS:  # so many that the least loaded are found soon
            holders = (each for each in cluster.load.least_loaded_first if each in step.run.holder_to_use)
        add((cluster.id_to_replica[each] for each in holders if each in cluster.id_to_replica), NUM_HOLDERS)
    add(
        (cluster.id_to_replica[each] for each in cluster.load.least_loaded_first if each in cluster.id_to_replica),
        NUM_LEAST_LOADED,
    )
    return found.values() or cluster.replicas


def _reason(chosen: Replica, owner: Replica, match: PrefixMatch, best_blocks: int, cluster: Cluster) -> Reason:
    if match.blocks_at(chosen.replica_id) < best_blocks:
        return Reason.SPILL
    if match.least_blocks(cluster.id_to_replica) < best_blocks:
        return Reason.PREFIX
    return Reason.RING if chosen == owner else Reason.SPILL

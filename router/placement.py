"""The replicas that shall have a prefix before any request for it is decided: by the ring alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from router.belief.hot_prefixes import HotPrefix
from router.cluster import Cluster
from router.ring import Ring, bound
from router.types import BlockHash, ReplicaId

LOAD_FACTOR = 1.25
"""Multiple of the mean blocks above which a replica gets no further prompt, as `load_factor` for requests."""


def prefixes_for(
    rank: int, hot_prefixes: Iterable[HotPrefix], cluster: Cluster, *, virtual_nodes: int
) -> list[HotPrefix]:
    """The hot prefixes with which a replica of this rank will be sent prompts, if it joins.

    These are the prefixes that are for all replicas, and those on whose stretch of the ring it will be.
    """
    ranks = {rank, *(replica.rank for replica in cluster.replicas)}
    ring, num_replicas = Ring(ranks, virtual_nodes=virtual_nodes), len(cluster.replicas)
    return [
        prefix
        for prefix in hot_prefixes
        if prefix.fan_out >= num_replicas or rank in islice(ring.successors(prefix.block_hash), prefix.fan_out)
    ]


def places_of(prompts: Sequence[Sequence[BlockHash]], cluster: Cluster) -> list[ReplicaId]:
    """The replica for each of these prompts, which no replica has: the first on the ring within the bound."""
    mean_blocks = sum(map(len, prompts)) / len(cluster.eligible)
    limit_blocks = bound(mean_blocks, load_factor=LOAD_FACTOR, margin_tokens=0)
    replica_to_blocks: Counter[ReplicaId] = Counter()
    places = []
    for prompt in prompts:
        in_order = cluster.in_ring_order(cluster.start_key(prompt, cluster.holders.match(prompt)))
        replica_ids = (replica.replica_id for replica in in_order)
        place = next(replica_id for replica_id in replica_ids if replica_to_blocks[replica_id] <= limit_blocks)
        replica_to_blocks[place] += len(prompt)
        places.append(place)
    return places

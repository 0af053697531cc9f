"""Affinity and nothing else: the hit rate that it can reach, and what it costs."""

import xxhash

from router import BlockHash, Reason, Replica, RouteRequest
from router.cluster import Cluster
from router.policies import Choice, Unlearning


class PureAffinity(Unlearning):
    """The replica with the most of the prompt cached, whatever its load; ties go by the ring.

    What the prompt has in common with many others says nothing: a conversation that is cached nowhere belongs to the
    owner of its first block of its own; so does a prompt without blocks, by its id. Otherwise one system prompt would
    send everybody to the same replica.
    """

    name = "pure_affinity"

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The replica with the most cached, or the owner."""
        match = cluster.holders.match(request.block_hashes)
        num_shared = match.shared_blocks
        in_order = list(cluster.in_ring_order(_key(request, num_shared)))

        def held_blocks(replica: Replica) -> int:
            return max(match.blocks_at(replica.replica_id), num_shared)

        chosen = max(in_order, key=held_blocks)  # the first of equals
        return Choice(chosen, Reason.PREFIX if held_blocks(chosen) > num_shared else Reason.RING)


def _key(request: RouteRequest, num_shared: int) -> BlockHash:
    if not request.block_hashes:
        return BlockHash(xxhash.xxh3_64_intdigest(request.request_id.encode()))
    return request.block_hashes[min(num_shared, len(request.block_hashes) - 1)]

"""Consistent hashing with bounded loads, as in KubeAI: `internal/loadbalancer/balance_chwbl.go` as of 2025-07-06.

Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018).
"""

import xxhash

from router.cluster import Cluster
from router.policies.baselines.rank_ring import RankRing
from router.policies.policy import Choice, Unlearning
from router.types import Reason, RouteRequest

VIRTUAL_NODES = 256
"""KubeAI's `replication`."""
LOAD_FACTOR = 1.25
"""KubeAI's `meanLoadPercentage`, 125."""


class Chwbl(Unlearning):
    """The first replica clockwise from the prompt's head that is within the bound, else the owner.

    KubeAI's head is the first 100 characters of the first user message. Tokens do not show where that begins, so here
    it is the first block after the shared prefix: the system prompt. A request without a key has its id instead.
    """

    name = "chwbl"

    def __init__(self) -> None:
        self._ring = RankRing(virtual_nodes=VIRTUAL_NODES)

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The owner, or the next replica within the bound."""
        in_order = self._ring.in_order(_key(request, cluster), cluster)
        loads = [cluster.load_of(replica).num_requests for replica in in_order]
        total = sum(loads)
        bound = LOAD_FACTOR * (total + 1) / len(loads)
        within = (replica for replica, load in zip(in_order, loads, strict=True) if total == 0 or load + 1 <= bound)
        chosen = next(within, in_order[0])
        if not request.block_hashes:
            return Choice(chosen, Reason.NO_KEY)
        return Choice(chosen, Reason.RING if chosen == in_order[0] else Reason.SPILL)


def _key(request: RouteRequest, cluster: Cluster) -> int:
    if not request.block_hashes:
        return xxhash.xxh3_64_intdigest(request.request_id.encode())
    num_shared_blocks = cluster.holders.match(request.block_hashes).shared_blocks
    return request.block_hashes[min(num_shared_blocks, len(request.block_hashes) - 1)]

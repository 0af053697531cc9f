"""A ring over the ranks of all replicas, for policies with their own number of virtual nodes."""

from router.cluster import Cluster
from router.ring import Ring
from router.types import BlockHash, Replica


class RankRing:
    """Follows the cluster's replicas. It is a function of them, so that all routers have the same ring."""

    def __init__(self, *, virtual_nodes: int) -> None:
        self._virtual_nodes = virtual_nodes
        self._ranks: frozenset[int] = frozenset()
        self._ring = Ring((), virtual_nodes=virtual_nodes)

    def in_order(self, key: int, cluster: Cluster) -> list[Replica]:
        """The eligible replicas, clockwise from the key; excluded ones are skipped."""
        ranks = frozenset(replica.rank for replica in cluster.replicas)
        if ranks != self._ranks:
            self._ranks, self._ring = ranks, Ring(ranks, virtual_nodes=self._virtual_nodes)
        place = {rank: position for position, rank in enumerate(self._ring.successors(BlockHash(key)))}
        return sorted(cluster.eligible, key=lambda replica: place[replica.rank])

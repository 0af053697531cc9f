"""A ring over the replicas that are there, for the policies that bring their own number of virtual nodes."""

from router.cluster import Cluster
from router.ring import Ring
from router.types import BlockHash, Replica


class MemberRing:
    """Follows the cluster's members. It is a function of them, so that all routers have the same one."""

    def __init__(self, *, virtual_nodes: int) -> None:
        self._virtual_nodes = virtual_nodes
        self._ranks: frozenset[int] = frozenset()
        self._ring = Ring((), virtual_nodes=virtual_nodes)

    def in_order(self, key: int, cluster: Cluster) -> list[Replica]:
        """The replicas in the choice, clockwise from the key; those out of the choice are passed over."""
        ranks = frozenset(replica.rank for replica in cluster.replicas)
        if ranks != self._ranks:
            self._ranks, self._ring = ranks, Ring(ranks, virtual_nodes=self._virtual_nodes)
        place = {rank: position for position, rank in enumerate(self._ring.successors(BlockHash(key)))}
        return sorted(cluster.eligible, key=lambda replica: place[replica.rank])

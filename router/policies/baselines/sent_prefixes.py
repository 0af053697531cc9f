"""What each replica was sent, as far as a policy remembers: the belief of every router that only sees requests."""

from collections.abc import Callable

from router.belief.holders import Holders
from router.cluster import Cluster
from router.types import Replica, ReplicaId, Reservation, RouteRequest


class SentPrefixes:
    """A capped LRU of block hashes for each replica that is there. Never corrected by what engines report.

    Args:
        capacity_tokens: how much of a replica is remembered.

    """

    def __init__(self, capacity_tokens: Callable[[Replica], int]) -> None:
        self._capacity_tokens = capacity_tokens
        self._holders = Holders()
        self._members: frozenset[Replica] = frozenset()

    @property
    def replica_ids(self) -> frozenset[ReplicaId]:
        """Who is remembered."""
        return frozenset(replica.replica_id for replica in self._members)

    def follow(self, cluster: Cluster) -> None:
        """Forget the replicas that left, start with those that came."""
        members = frozenset(cluster.replicas)
        if members == self._members:
            return
        for replica in self._members - members:
            self._holders.remove_replica(replica.replica_id)
        for replica in members - self._members:
            capacity_blocks = self._capacity_tokens(replica) // cluster.block_size
            self._holders.add_replica(replica.replica_id, capacity_blocks=capacity_blocks)
        self._members = members

    def insert(self, reservation: Reservation) -> None:
        """The replica got this prompt. One that joined after the last decision is not known yet, and learns later."""
        if reservation.replica_id in self.replica_ids:
            self._holders.insert(reservation.replica_id, reservation.request.block_hashes)

    def matched_blocks(self, replica: Replica, request: RouteRequest) -> int:
        """Leading blocks of the prompt that the replica was sent before."""
        return self._holders.matched_blocks(replica.replica_id, request.block_hashes)

    def num_blocks(self, replica: Replica) -> int:
        """Blocks that are remembered of a replica."""
        return self._holders.num_blocks(replica.replica_id)

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        self._holders.check_integrity()

"""The prompts that each replica was sent, as far as a policy remembers: all that most other routers know of caches."""

from collections.abc import Callable

from router.belief.holders import Holders
from router.cluster import Cluster
from router.types import Replica, ReplicaId, Reservation, RouteRequest


class SentPrefixes:
    """A capped LRU of block hashes for each replica. Never corrected by the reports of engines.

    Args:
        capacity_tokens: gives the number of tokens that are remembered of a replica.

    """

    def __init__(self, capacity_tokens: Callable[[Replica], int]) -> None:
        self._capacity_tokens = capacity_tokens
        self._holders = Holders()
        self._replicas: frozenset[Replica] = frozenset()

    @property
    def replica_ids(self) -> frozenset[ReplicaId]:
        """The replicas whose prompts are remembered."""
        return frozenset(replica.replica_id for replica in self._replicas)

    def follow(self, cluster: Cluster) -> None:
        """Forget the replicas that left, and start with those that came."""
        replicas = frozenset(cluster.replicas)
        if replicas == self._replicas:
            return
        for replica in self._replicas - replicas:
            self._holders.remove_replica(replica.replica_id)
        for replica in replicas - self._replicas:
            capacity_blocks = self._capacity_tokens(replica) // cluster.block_size
            self._holders.add_replica(replica.replica_id, capacity_blocks=capacity_blocks)
        self._replicas = replicas

    def insert(self, reservation: Reservation) -> None:
        """Remember a prompt. A replica that joined after the last decision is not known yet, and is left out."""
        if reservation.replica_id in self.replica_ids:
            self._holders.insert(reservation.replica_id, reservation.request.block_hashes)

    def matched_blocks(self, replica: Replica, request: RouteRequest) -> int:
        """Leading blocks of the prompt that the replica was sent before."""
        return self._holders.matched_blocks(replica.replica_id, request.block_hashes)

    def num_blocks(self, replica: Replica) -> int:
        """Remembered blocks of a replica."""
        return self._holders.num_blocks(replica.replica_id)

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        self._holders.check_integrity()

"""Consistent hashing by session: Ray's ConsistentHashRouter."""

import xxhash

from router.cluster import Cluster
from router.policies.baselines.rank_ring import RankRing
from router.policies.policy import Choice, Unlearning
from router.types import Reason, RouteRequest

VIRTUAL_NODES = 100
"""`DEFAULT_NUM_VIRTUAL_NODES` of `ray.serve.experimental.consistent_hash_router`, Ray 2.60."""


class SessionHash(Unlearning):
    """The owner of the session's key, whatever its load; without a session, of the request's id, which is random.

    The hash is xxh3 where Ray's is MurmurHash3. Ray goes on clockwise where a replica rejects a request; here, where
    it is excluded.
    """

    name = "session_hash"

    def __init__(self) -> None:
        self._ring = RankRing(virtual_nodes=VIRTUAL_NODES)

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The owner."""
        key: int | None = request.session_key
        if key is None:
            key = xxhash.xxh3_64_intdigest(request.request_id.encode())
        return Choice(self._ring.in_order(key, cluster)[0], Reason.RING)

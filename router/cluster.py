"""The state that a policy decides on: replicas, their load, what they are believed to hold, and the ring."""

from collections.abc import Sequence
from dataclasses import dataclass

from router.blocks import cacheable_tokens
from router.holders import Holders
from router.load import LoadBook, ReplicaLoad
from router.ring import Ring
from router.types import Replica, RouteRequest


@dataclass(slots=True)
class Cluster:
    """One router's view. Policies read it; only the `Router` writes it."""

    members: tuple[Replica, ...]
    """Every replica there is."""
    replicas: tuple[Replica, ...]
    """Those in the choice."""
    load: LoadBook
    holders: Holders
    ring: Ring
    block_size: int

    def load_of(self, replica: Replica) -> ReplicaLoad:
        """Outstanding work at a replica."""
        return self.load[replica.replica_id]

    def cached_tokens(self, replica: Replica, request: RouteRequest) -> int:
        """Prompt tokens that the replica is believed to reuse for this request."""
        num_blocks = self.holders.matched_blocks(replica.replica_id, request.block_hashes)
        return cacheable_tokens(request.num_prompt_tokens, num_blocks=num_blocks, block_size=self.block_size)

    def shared_tokens(self, replica: Replica, request: RouteRequest) -> int:
        """Of the cached tokens there, those at the prompt's start that other conversations share."""
        return self.holders.shared_blocks(replica.replica_id, request.block_hashes) * self.block_size

    def in_ring_order(self, request: RouteRequest, cached: Sequence[int]) -> tuple[Replica, ...]:
        """Every replica in the choice, the owner of the request's key first; the request must have one.

        `cached` holds each replica's `cached_tokens`, in the order of `replicas`.

        The key is the first block that not every replica holds: a prefix that all share (a common system
        prompt) says nothing about where the request should go, and would send everyone to one owner.
        """
        shared_blocks = min(cached) // self.block_size
        key = request.block_hashes[min(shared_blocks, len(request.block_hashes) - 1)]
        rank_to_replicas: dict[int, list[Replica]] = {}
        for replica in self.replicas:  # two may share a rank while one replaces the other
            rank_to_replicas.setdefault(replica.rank, []).append(replica)
        ranks = self.ring.successors(key)  # of every member: those out of the choice are passed over
        return tuple(replica for rank in ranks for replica in rank_to_replicas.get(rank, ()))

"""Ray Serve LLM's PrefixCacheAffinityRouter: its own `PrefixTree`, called in process, under its rule and defaults.

After `ray/llm/_internal/serve/routing_policies/prefix_aware/prefix_aware_router.py`, Ray 2.60.
"""

from collections.abc import Iterator
from itertools import count
from random import Random

from router import Reason, ReplicaId, Reservation, RouteRequest
from router.cluster import Cluster
from router.policies import Choice, LeastRequests, PowerOfTwo

MATCH_RATE_THRESHOLD = 0.1
"""`match_rate_threshold`. Its `imbalanced_threshold` is infinite, so that load never overrules a prefix."""

CHARACTERS_PER_BLOCK = 4
_CHARACTER_BITS = 16


class RayPrefix:
    """The longest match if it is long enough, else the replicas that were sent the least text; of these, the shortest
    queue.

    Not bounded, as Ray's is by default (`do_eviction` is off). A prompt without text gets power of two choices; Ray
    fails there, for it divides by the text's length.

    Args:
        rng: breaks ties.
        block_size: tokens in a block.

    """

    name = "ray_prefix"

    def __init__(self, rng: Random, *, block_size: int) -> None:
        from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import PrefixTree

        self._tree = PrefixTree()
        self._block_size = block_size
        self._least_requests = LeastRequests(rng)
        self._power_of_two = PowerOfTwo(rng)
        self._times = count()

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The router's `_prefix_match_best_replicas`, and the shortest queue among what that gives."""
        self._follow(cluster)
        text = self._text(request)
        if not text:
            return Choice(self._power_of_two.choose(request, cluster).replica, Reason.NO_KEY)
        replica_ids = [replica.replica_id for replica in cluster.eligible]
        matched, holders = self._tree.prefix_match(text, replica_ids)
        is_match = len(matched) / len(text) >= MATCH_RATE_THRESHOLD
        wanted = set(holders or ()) if is_match else set(self._tree.get_smallest_tenants() or ())
        candidates = [replica for replica in cluster.eligible if replica.replica_id in wanted]
        if not candidates:
            return self._power_of_two.choose(request, cluster)
        replica = self._least_requests.among(candidates, cluster)
        return Choice(replica, Reason.PREFIX if is_match else Reason.BASELINE)

    def on_reserved(self, reservation: Reservation) -> None:
        """Ray inserts the prompt when it is sent, and never the answer."""
        self._tree.insert(self._text(reservation.request), reservation.replica_id, next(self._times))

    @property
    def replica_ids(self) -> frozenset[ReplicaId]:
        """The replicas that are in the tree."""
        return frozenset(self._tree.tenant_to_char_count)

    def _follow(self, cluster: Cluster) -> None:
        members = {replica.replica_id for replica in cluster.replicas}
        self._tree.remove_tenants(list(self.replica_ids - members))
        self._tree.add_tenants(sorted(members - self.replica_ids), next(self._times))

    def _text(self, request: RouteRequest) -> str:
        """Characters for each block, and as many, which no other prompt shares, for what follows the last."""
        num_tail_tokens = request.num_prompt_tokens - self._block_size * len(request.block_hashes)
        tail = Random(request.request_id)
        num_tail_characters = CHARACTERS_PER_BLOCK * num_tail_tokens // self._block_size
        characters = [character for block_hash in request.block_hashes for character in _characters(block_hash)]
        characters += (chr(tail.getrandbits(_CHARACTER_BITS)) for _ in range(num_tail_characters))
        return "".join(characters)


def _characters(block_hash: int) -> Iterator[str]:
    for position in range(CHARACTERS_PER_BLOCK):
        yield chr(block_hash >> (_CHARACTER_BITS * position) & (1 << _CHARACTER_BITS) - 1)

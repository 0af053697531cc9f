"""The rule of Ray Serve LLM's KVAwareRouter (Ray 2.60 with ai-dynamo-runtime 1.6.1), on exact knowledge of the caches.

A copy in Python, not Ray's own: its router asks Dynamo's SelectionService, which reads KV events from sockets in real
time, and a simulation has its own time. What Ray tells the service, and when, is in `ray/llm/_internal/serve/
routing_policies/kv_aware/kv_token_tracker.py`; with the package installed, a test compares these numbers with its own.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from loadtests.replay.engine import Engine
from router import BlockHash, Reason, Replica, ReplicaId, RequestId, Reservation, RouteRequest
from router.cluster import Cluster
from router.policies import Choice

HOST_CREDIT = 0.75
"""`host_cache_hit_weight`: what a token cached in the host's memory counts. On the device it counts 1."""


@dataclass(slots=True)
class _ActivePrompts:
    """The requests of one worker, as the service counts them."""

    prefill_tokens: dict[RequestId, float] = field(default_factory=dict)
    """Tokens to compute for each request without a first token, by the events that had come by then."""
    prompts: dict[RequestId, tuple[BlockHash, ...]] = field(default_factory=dict)
    """The blocks of all active requests."""
    num_active: Counter[BlockHash] = field(default_factory=Counter)
    """The number of these in which a block is."""

    def end(self, request_id: RequestId) -> None:
        """Its blocks are active no more."""
        self.num_active.subtract(self.prompts[request_id])
        for block_hash in self.prompts.pop(request_id):
            if not self.num_active[block_hash]:
                del self.num_active[block_hash]
        self.prefill_tokens.pop(request_id, None)

    def num_blocks_with(self, block_hashes: Sequence[BlockHash]) -> int:
        """Different active blocks, a further prompt's included. A chained hash is active only if its parent is."""
        num_shared = bisect_left(block_hashes, 1, key=lambda each: each not in self.num_active)
        return len(self.num_active) + len(block_hashes) - num_shared


class RayKvAware:
    """Blocks of pending prefill + of the prompt without what is cached + of all active prompts; lowest wins.

    Active blocks are full ones and count once however many requests share them. Answers count nothing: Ray's replicas
    tell of their tokens only with RAY_SERVE_LLM_ENABLE_DECODE_BLOCK_PROGRESS, and a request's `max_tokens` scales no
    more than those. Ray's KV events come late, here they never do.

    Args:
        rng: breaks ties.
        block_size: tokens in a block.
        engine_of: asked for what is cached.

    """

    name = "ray_kv_aware"

    def __init__(self, rng: Random, *, block_size: int, engine_of: Callable[[ReplicaId], Engine]) -> None:
        self._rng = rng
        self._block_size = block_size
        self._engine_of = engine_of
        self._desks: dict[ReplicaId, _ActivePrompts] = {}

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The cheapest; ties at random. As with Ray, any replica for a prompt without tokens."""
        self._follow(cluster)
        if not request.num_prompt_tokens:
            return Choice(self._rng.choice(cluster.eligible), Reason.NO_KEY)

        def cost_blocks(replica: Replica) -> tuple[float, float]:
            desk = self._desks[replica.replica_id]
            prefill_tokens = sum(desk.prefill_tokens.values()) + self._prefill_tokens(replica.replica_id, request)
            decode_blocks = desk.num_blocks_with(request.block_hashes)
            return prefill_tokens / self._block_size + decode_blocks, self._rng.random()

        return Choice(min(cluster.eligible, key=cost_blocks), Reason.BASELINE)

    def on_reserved(self, reservation: Reservation) -> None:
        """Record the request where it went, with the prefill that is left there at this moment."""
        desk = self._desks.setdefault(reservation.replica_id, _ActivePrompts())
        request = reservation.request
        if request.request_id not in desk.prompts:
            desk.prefill_tokens[request.request_id] = self._prefill_tokens(reservation.replica_id, request)
            desk.prompts[request.request_id] = request.block_hashes
            desk.num_active.update(request.block_hashes)

    def potential_load(self, replica_id: ReplicaId, request: RouteRequest) -> tuple[float, int]:
        """Prefill tokens and active blocks with a further request of which nothing is cached: `potential_loads`."""
        desk = self._desks[replica_id]
        pending_tokens = sum(desk.prefill_tokens.values())
        return pending_tokens + request.num_prompt_tokens, desk.num_blocks_with(request.block_hashes)

    def _prefill_tokens(self, replica_id: ReplicaId, request: RouteRequest) -> float:
        engine = self._engine_of(replica_id)
        device_tokens = engine.cache.num_cached(request.block_hashes) * self._block_size
        all_tokens = engine.reusable_tokens(request.num_prompt_tokens, request.block_hashes)
        credit_tokens = device_tokens + HOST_CREDIT * max(0, all_tokens - device_tokens)
        return max(0, request.num_prompt_tokens - credit_tokens)

    def _follow(self, cluster: Cluster) -> None:
        """First tokens, ends, and replicas that came and went."""
        members = {replica.replica_id for replica in cluster.replicas}
        self._desks = {each: desk for each, desk in self._desks.items() if each in members}
        for replica_id in members:
            desk = self._desks.setdefault(replica_id, _ActivePrompts())
            load = cluster.load[replica_id]
            if len(desk.prompts) != load.num_requests or len(desk.prefill_tokens) != load.num_waiting:
                _catch_up(desk, replica_id, cluster)


def _catch_up(desk: _ActivePrompts, replica_id: ReplicaId, cluster: Cluster) -> None:
    booked = {each.reservation.request.request_id: each for each in cluster.load.export(replica_id)}
    for request_id in desk.prompts.keys() - booked.keys():
        desk.end(request_id)
    for request_id in [each for each in desk.prefill_tokens if not booked[each].prompt_tokens_left]:
        del desk.prefill_tokens[request_id]

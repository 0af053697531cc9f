"""DualMap, "Enabling Both Cache Affinity and Load Balancing for Distributed LLM Serving" (arXiv 2602.06502, ICLR 2026).

Its rule of routing, on exact knowledge of the caches. Its migration of requests that wait in a hot spot is left out:
vLLM gives no request back, and the paper moves them in front of its engines.
"""

from collections.abc import Callable
from random import Random

import xxhash

from loadtests.replay.engine import Engine
from router import BlockHash, Reason, Replica, ReplicaId, RouteRequest
from router.cluster import Cluster
from router.policies import Choice, Unlearning

TTFT_SLO_S = 5.0
"""The paper leaves it to who operates the service. On Mooncake's conversations (8 replicas, load 0.8) 2 s give a mean
TTFT of 2.4 s, 10 s one of 2.2 s."""

_SECOND_RING = 1
"""Seed of the second hash: one ring with two independent places for a key is as good as two rings."""


class DualMap(Unlearning):
    """Two hashes of a prompt's prefix give two candidates, of which the one with more of it cached is chosen.

    Where the first token would then come after the SLO, the candidate with less pending prefill is. The prefix that
    is hashed ends with the first block that is not common to many prompts, in place of the paper's prefix tree that
    lengthens a hot prefix. The time to the first token is pending and new prefill by the engine's speed of prefill,
    which the paper has measured beforehand.
    """

    name = "dualmap"

    def __init__(self, rng: Random, *, engine_of: Callable[[ReplicaId], Engine]) -> None:
        self._rng = rng
        self._engine_of = engine_of

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The better of two; ties go to less pending prefill, then at random."""
        candidates = self._candidates(request, cluster)

        def by_cache(replica: Replica) -> tuple[int, int, float]:
            return -self._cached_tokens(replica, request), cluster.load_of(replica).pending_tokens, self._rng.random()

        def by_load(replica: Replica) -> tuple[int, float]:
            return cluster.load_of(replica).pending_tokens, self._rng.random()

        cached = min(candidates, key=by_cache)
        if self._ttft_s(cached, request, cluster) <= TTFT_SLO_S:
            if not request.block_hashes:
                return Choice(cached, Reason.NO_KEY)
            return Choice(cached, Reason.PREFIX if self._cached_tokens(cached, request) else Reason.RING)
        return Choice(min(candidates, key=by_load), Reason.SPILL)

    def _candidates(self, request: RouteRequest, cluster: Cluster) -> list[Replica]:
        """Two different replicas, or the only one."""
        if request.block_hashes:
            key = cluster.start_key(request.block_hashes, cluster.holders.match(request.block_hashes))
        else:
            key = BlockHash(xxhash.xxh3_64_intdigest(request.request_id.encode()))
        second_key = BlockHash(xxhash.xxh3_64_intdigest(key.to_bytes(8, "big"), seed=_SECOND_RING))
        first = next(cluster.in_ring_order(key))
        return [first, *(each for each in cluster.in_ring_order(second_key) if each is not first)][:2]

    def _cached_tokens(self, replica: Replica, request: RouteRequest) -> int:
        engine = self._engine_of(replica.replica_id)
        return engine.reusable_tokens(request.num_prompt_tokens, request.block_hashes)

    def _ttft_s(self, replica: Replica, request: RouteRequest, cluster: Cluster) -> float:
        new_tokens = request.num_prompt_tokens - self._cached_tokens(replica, request)
        prefill_tokens = cluster.load_of(replica).pending_tokens + new_tokens
        return prefill_tokens / self._engine_of(replica.replica_id).options.prefill_tokens_per_s

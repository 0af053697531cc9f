"""LMetric, "Multiplication May Be All You Need for LLM Request Scheduling" (arXiv 2603.15202), on exact knowledge.

The score is as in the two implementations that were proposed for routers, llm-d-router 2351 and Dynamo 11028: one more
than the batch, so that an idle replica is not free whatever it would have to compute.
"""

from collections.abc import Callable
from random import Random

from loadtests.replay.engine import Engine
from router import Reason, Replica, ReplicaId, RouteRequest
from router.cluster import Cluster
from router.policies import Choice, Unlearning


class LMetric(Unlearning):
    """(pending prefill + the prompt without what is cached there) x (requests there + 1); lowest wins.

    Pending prefill and requests are the router's own, which knows of a request as soon as it is sent; what is
    cached is the engine's.
    """

    name = "lmetric"

    def __init__(self, rng: Random, *, engine_of: Callable[[ReplicaId], Engine]) -> None:
        self._rng = rng
        self._engine_of = engine_of

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The lowest score; ties at random."""

        def score(replica: Replica) -> tuple[int, float]:
            load = cluster.load_of(replica)
            cached_tokens = self._engine_of(replica.replica_id).reusable_tokens(
                request.num_prompt_tokens, request.block_hashes
            )
            prefill_tokens = load.pending_tokens + request.num_prompt_tokens - cached_tokens
            return prefill_tokens * (load.num_requests + 1), self._rng.random()

        return Choice(min(cluster.eligible, key=score), Reason.BASELINE)

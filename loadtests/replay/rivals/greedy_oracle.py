"""Perfect information about the engines, one request ahead."""

from collections.abc import Callable
from random import Random

from loadtests.replay.engine import Engine
from router import Reason, Replica, ReplicaId, RouteRequest
from router.cluster import Cluster
from router.policies import Choice, Unlearning


class GreedyOracle(Unlearning):
    """Where the prompt's prefill would be over first: true pending tokens there + its tokens truly not cached.

    No bound: what is cheapest for this request may cost the next ones more.
    """

    name = "greedy_oracle"

    def __init__(self, rng: Random, *, engine_of: Callable[[ReplicaId], Engine]) -> None:
        self._rng = rng
        self._engine_of = engine_of

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The cheapest; ties at random."""

        def cost(replica: Replica) -> tuple[int, float]:
            engine = self._engine_of(replica.replica_id)
            cached_tokens = engine.reusable_tokens(request.num_prompt_tokens, request.block_hashes)
            return engine.pending_tokens() + request.num_prompt_tokens - cached_tokens, self._rng.random()

        return Choice(min(cluster.eligible, key=cost), Reason.BASELINE)

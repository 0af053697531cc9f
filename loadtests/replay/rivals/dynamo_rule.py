"""Dynamo's cost of a worker, on exact knowledge of the caches, as its KV events would give it.

After ai-dynamo 1.6: `dynamo_kv_router`'s default selector and `KvRouterConfig`, whose defaults are a prefill load scale
and an overlap credit of 1 and a temperature of 0.
"""

from collections.abc import Callable
from random import Random

from loadtests.replay.engine import Engine
from router import Reason, Replica, ReplicaId, RouteRequest
from router.cluster import Cluster
from router.policies import Choice, Unlearning


class DynamoRule(Unlearning):
    """Pending prefill + the prompt without what is cached there + the prompts of all active requests; lowest wins.

    In tokens where Dynamo counts blocks. Its KV events arrive late, and blocks that active requests share count once.
    """

    name = "dynamo_rule"

    def __init__(self, rng: Random, *, engine_of: Callable[[ReplicaId], Engine]) -> None:
        self._rng = rng
        self._engine_of = engine_of

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The cheapest; ties at random."""

        def cost(replica: Replica) -> tuple[int, float]:
            engine = self._engine_of(replica.replica_id)
            cached_tokens = engine.reusable_tokens(request.num_prompt_tokens, request.block_hashes)
            prefill_tokens = cluster.load_of(replica).pending_tokens + request.num_prompt_tokens - cached_tokens
            return prefill_tokens + engine.active_tokens, self._rng.random()

        return Choice(min(cluster.eligible, key=cost), Reason.BASELINE)

"""llm-d's rule on what llm-d looks at: vLLM's own metrics."""

from collections.abc import Callable
from random import Random

from loadtests.replay.engine import Engine
from router import Replica, ReplicaId
from router.cluster import Cluster
from router.policies import LlmdApproximate
from router.policies.baselines.llmd_approximate import Metrics


class LlmdScraped(LlmdApproximate):
    """Queue and KV usage are `vllm:num_requests_waiting` and `vllm:kv_cache_usage_perc`.

    llm-d scrapes them every 50 ms; here they are never old, which makes the rule stronger.
    """

    name = "llmd_scraped"

    def __init__(self, rng: Random, *, engine_of: Callable[[ReplicaId], Engine]) -> None:
        def scrape(replica: Replica, _cluster: Cluster) -> Metrics:
            engine = engine_of(replica.replica_id)
            return Metrics(engine.num_waiting, min(1.0, engine.used_tokens / replica.kv_capacity_tokens))

        super().__init__(rng, metrics=scrape)

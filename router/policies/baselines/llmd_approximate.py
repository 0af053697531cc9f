"""llm-d's default: a weighted sum of scores for prefix, queue and KV usage.

After llm-d-router as of 2026-08-22: `scorer/prefix`, `scorer/queuedepth`, `scorer/kvcacheutilization`,
`picker/maxscore` and `dataproducer/approximateprefix`.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from router.cluster import Cluster
from router.policies.baselines.sent_prefixes import SentPrefixes
from router.policies.policy import Choice
from router.types import Reason, Replica, ReplicaId, Reservation, RouteRequest

# The weights of llm-d-router's default profile.
PREFIX_WEIGHT = 3.0
QUEUE_WEIGHT = 2.0
KV_USAGE_WEIGHT = 2.0


class Metrics(NamedTuple):
    """The numbers of a replica that the rule uses."""

    num_waiting: int
    """Sequences without a first token."""
    kv_usage: float
    """Share of the KV cache that running requests use."""


def booked_metrics(replica: Replica, cluster: Cluster) -> Metrics:
    """The numbers that a router knows by itself: requests without a first token, and nothing about the KV usage.

    llm-d scrapes the engines, whose queue leaves out the requests that are being prefilled. Counting those too makes
    the rule stronger.
    """
    return Metrics(cluster.load_of(replica).num_waiting, 0.0)


class LlmdApproximate:
    """The highest score wins; ties at random.

    The prompts that a replica was sent are remembered up to the size of its KV cache: llm-d tunes its LRU (31,250
    blocks of 16 tokens by default) to the number of blocks that the engine reports. Its blocks have at least 64 tokens,
    whatever the engine's have, so its memory really is up to four times the cache. Remembering no more than the cache
    makes the rule stronger, and so does forgetting leaves before stems.

    Args:
        rng: breaks ties.
        metrics: gives the numbers of a replica, now.

    """

    name = "llmd_approximate"

    def __init__(self, rng: Random, *, metrics: Callable[[Replica, Cluster], Metrics] = booked_metrics) -> None:
        self._rng = rng
        self._metrics = metrics
        self.sent = SentPrefixes(lambda replica: replica.kv_capacity_tokens)

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The replica with the highest score."""
        self.sent.follow(cluster)
        matches = self._matches(request, cluster)
        all_metrics = [self._metrics(replica, cluster) for replica in cluster.eligible]
        queues = _queue_scores([metrics.num_waiting for metrics in all_metrics])
        scores = [
            PREFIX_WEIGHT * match + QUEUE_WEIGHT * queue + KV_USAGE_WEIGHT * (1 - metrics.kv_usage)
            for match, queue, metrics in zip(matches, queues, all_metrics, strict=True)
        ]
        best = max(range(len(scores)), key=lambda index: (scores[index], self._rng.random()))
        return Choice(cluster.eligible[best], _reason(matches, best))

    @property
    def replica_ids(self) -> frozenset[ReplicaId]:
        """The replicas whose prefixes are remembered."""
        return self.sent.replica_ids

    def on_reserved(self, reservation: Reservation) -> None:
        """Remember a prompt as soon as it is scheduled."""
        self.sent.insert(reservation)

    def _matches(self, request: RouteRequest, cluster: Cluster) -> list[float]:
        """The share of the prompt's blocks that each replica was sent before."""
        num_blocks = max(1, len(request.block_hashes))
        return [self.sent.matched_blocks(replica, request) / num_blocks for replica in cluster.eligible]


def _queue_scores(queues: list[int]) -> list[float]:
    """The shortest queue scores 1, the longest 0; equal ones score 1."""
    shortest, longest = min(queues), max(queues)
    if shortest == longest:
        return [1.0] * len(queues)
    return [(longest - queue) / (longest - shortest) for queue in queues]


def _reason(matches: list[float], chosen: int) -> Reason:
    if matches[chosen] < max(matches):
        return Reason.SPILL
    return Reason.PREFIX if matches[chosen] else Reason.BASELINE

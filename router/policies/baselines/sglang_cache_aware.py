"""The cache_aware policy of SGLang's router, now Shepherd Model Gateway.

After `model_gateway/src/policies/cache_aware.rs` as of 2026-08-07, on the token tree without KV events.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from router.cluster import Cluster
from router.policies.baselines.least_requests import LeastRequests
from router.policies.baselines.sent_prefixes import SentPrefixes
from router.policies.policy import Choice
from router.types import Reason, Replica, ReplicaId, Reservation, RouteRequest


@dataclass(frozen=True, slots=True)
class SglangCacheAwareOptions:
    """The defaults are those of the command line. Those of the library, which few use, are 0.5, 32, 1.1 and 10,000."""

    cache_threshold: float = 0.3
    """A prefix is followed if more than this share of the prompt matches."""
    balance_abs_threshold: int = 64
    """Prefixes are not followed if the longest queue exceeds the shortest by more than this number of requests ..."""
    balance_rel_threshold: float = 1.5
    """... and is longer than this multiple of it."""
    max_tree_tokens: int = 2**26
    """Remembered tokens of each replica's prefixes; the least recently used go first."""


class SglangCacheAware:
    """The longest match if it is long enough and load is balanced; else the shortest queue. Ties at random.

    Among several replicas with the longest match, the one with the shortest queue: earlier releases took any.
    """

    name = "sglang_cache_aware"

    def __init__(self, rng: Random, options: SglangCacheAwareOptions | None = None) -> None:
        self._options = options or SglangCacheAwareOptions()
        self._least_requests = LeastRequests(rng)
        self.sent = SentPrefixes(lambda _replica: self._options.max_tree_tokens)

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The replica by prefix or by queue."""
        self.sent.follow(cluster)
        holders, matched_blocks = self._longest_match(request, cluster)
        matched_tokens = matched_blocks * cluster.block_size
        if matched_tokens <= self._options.cache_threshold * request.num_prompt_tokens:
            return Choice(self._least_requests.among(cluster.eligible, cluster), Reason.BASELINE)
        if self._is_imbalanced(cluster):
            return Choice(self._least_requests.among(cluster.eligible, cluster), Reason.SPILL)
        return Choice(self._least_requests.among(holders, cluster), Reason.PREFIX)

    @property
    def replica_ids(self) -> frozenset[ReplicaId]:
        """The replicas whose prefixes are remembered."""
        return self.sent.replica_ids

    def on_reserved(self, reservation: Reservation) -> None:
        """Put a prompt into the tree when it is sent, by prefix or by queue."""
        self.sent.insert(reservation)

    def _longest_match(self, request: RouteRequest, cluster: Cluster) -> tuple[Sequence[Replica], int]:
        matches = [self.sent.matched_blocks(replica, request) for replica in cluster.eligible]
        longest = max(matches)
        holders = [replica for replica, match in zip(cluster.eligible, matches, strict=True) if match == longest]
        return holders, longest

    def _is_imbalanced(self, cluster: Cluster) -> bool:
        queues = [cluster.load_of(replica).num_requests for replica in cluster.eligible]
        shortest, longest = min(queues), max(queues)
        return (
            longest - shortest > self._options.balance_abs_threshold
            and longest > self._options.balance_rel_threshold * shortest
        )

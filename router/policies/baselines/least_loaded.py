"""The least outstanding work, in tokens."""

from random import Random

from router.cluster import Cluster
from router.policies.policy import Choice, Unlearning
from router.types import Reason, Replica, RouteRequest


class LeastLoaded(Unlearning):
    """The replica with the fewest pending prefill tokens, then the fewest outstanding requests; ties at random."""

    name = "least_loaded"

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:  # noqa: ARG002  interface
        """The least loaded replica."""
        return Choice(self.least_loaded(cluster), Reason.BASELINE)

    def least_loaded(self, cluster: Cluster) -> Replica:
        """The replica itself, for policies that fall back to it."""

        def cost(replica: Replica) -> tuple[int, int, float]:
            load = cluster.load_of(replica)
            return load.pending_tokens, load.num_requests, self._rng.random()

        return min(cluster.eligible, key=cost)

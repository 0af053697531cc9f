"""Power of two choices (Mitzenmacher 1996)."""

from random import Random

from router.cluster import Cluster
from router.policies.policy import Choice, Unlearning
from router.types import Reason, RouteRequest


class PowerOfTwo(Unlearning):
    """The one of two random replicas with fewer outstanding requests: Ray Serve's default."""

    name = "power_of_two"

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:  # noqa: ARG002  interface
        """The replica with the shorter queue; the draw's order is random, so `min` breaks ties at random."""
        drawn = self._rng.sample(cluster.eligible, k=min(2, len(cluster.eligible)))
        replica = min(drawn, key=lambda candidate: cluster.load_of(candidate).num_requests)
        return Choice(replica, Reason.BASELINE)

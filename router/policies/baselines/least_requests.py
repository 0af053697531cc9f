"""The fewest outstanding requests: the rule of most load balancers."""

from collections.abc import Sequence
from random import Random

from router.cluster import Cluster
from router.policies.policy import Choice, Unlearning
from router.types import Reason, Replica, RouteRequest


class LeastRequests(Unlearning):
    """The replica with the fewest outstanding requests, whatever their length; ties at random."""

    name = "least_requests"

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:  # noqa: ARG002  interface
        """The replica with the shortest queue."""
        return Choice(self.among(cluster.eligible, cluster), Reason.BASELINE)

    def among(self, replicas: Sequence[Replica], cluster: Cluster) -> Replica:
        """The one of these replicas with the shortest queue, for policies that fall back to it."""
        return min(replicas, key=lambda replica: (cluster.load_of(replica).num_requests, self._rng.random()))

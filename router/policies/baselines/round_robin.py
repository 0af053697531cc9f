"""Each replica in turn."""

from random import Random

from router.cluster import Cluster
from router.policies.policy import Choice, Unlearning
from router.types import Reason, RouteRequest


class RoundRobin(Unlearning):
    """The replicas in turn, by rank, from a random start, so that several routers do not walk in step."""

    name = "round_robin"

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._next: int | None = None

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:  # noqa: ARG002  interface
        """The next replica."""
        if self._next is None:
            self._next = self._rng.randrange(len(cluster.eligible))
        replica = cluster.eligible[self._next % len(cluster.eligible)]
        self._next += 1
        return Choice(replica, Reason.BASELINE)

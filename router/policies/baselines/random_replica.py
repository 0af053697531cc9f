"""A random choice."""

from random import Random

from router.cluster import Cluster
from router.policies.policy import Choice, Unlearning
from router.types import Reason, RouteRequest


class RandomReplica(Unlearning):
    """Any replica, each as likely as the others."""

    name = "random"

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:  # noqa: ARG002  interface
        """A random replica."""
        return Choice(self._rng.choice(cluster.eligible), Reason.BASELINE)

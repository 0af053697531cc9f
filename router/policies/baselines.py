"""Policies that do not look at prefixes. Ties are broken at random, never by position in the list."""

from random import Random

from router.cluster import Cluster
from router.policies.policy import Choice
from router.types import Reason, Replica, RouteRequest


class RoundRobin:
    """Each replica in turn, by rank, from a random start: several routers must not walk in step."""

    name = "round_robin"

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._next: int | None = None

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:  # noqa: ARG002  interface
        """The next replica."""
        if self._next is None:
            self._next = self._rng.randrange(len(cluster.replicas))
        replica = cluster.replicas[self._next % len(cluster.replicas)]
        self._next += 1
        return Choice(replica, Reason.BASELINE)


class PowerOfTwo:
    """Of two replicas drawn at random, the one with fewer outstanding requests (Mitzenmacher 1996)."""

    name = "power_of_two"

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:  # noqa: ARG002  interface
        """The less busy of two; the draw's order is random, so `min` breaks ties at random."""
        drawn = self._rng.sample(cluster.replicas, k=min(2, len(cluster.replicas)))
        replica = min(drawn, key=lambda candidate: cluster.load_of(candidate).num_requests)
        return Choice(replica, Reason.BASELINE)


class LeastLoaded:
    """The replica with the fewest pending prefill tokens, then the fewest outstanding requests."""

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

        return min(cluster.replicas, key=cost)

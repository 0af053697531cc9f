"""The interface of a policy."""

from typing import NamedTuple, Protocol

from router.cluster import Cluster
from router.types import Reason, Replica, RouteRequest


class Choice(NamedTuple):
    """A policy's answer."""

    replica: Replica
    reason: Reason


class Policy(Protocol):
    """Chooses among `cluster.replicas`, of which there is at least one, without changing the cluster.

    A policy may keep state of its own (a cursor, a random generator); it counts and logs nothing.
    """

    name: str

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The replica for this request."""
        ...

"""The interface of policies."""

from typing import NamedTuple, Protocol

from router.cluster import Cluster
from router.types import Reason, Replica, Reservation, RouteRequest


class Choice(NamedTuple):
    """A policy's answer."""

    replica: Replica
    reason: Reason


class Policy(Protocol):
    """Chooses one of `cluster.eligible`, of which there is at least one, without changing the cluster.

    A policy may keep a cursor, a random generator, and estimates of its own. It learns from `on_reserved` alone: a
    shadow is asked for its choice, too, and must not learn from its answers. Estimates are bounded, and replicas that
    have left `cluster.replicas` are forgotten. A policy counts and logs nothing.
    """

    name: str

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """Choose the replica for this request."""
        ...

    def on_reserved(self, reservation: Reservation) -> None:
        """A request was placed, here or by a peer; policies with estimates of their own learn from it."""
        ...


class Unlearning:
    """Base class of the policies without estimates of their own."""

    def on_reserved(self, reservation: Reservation) -> None:
        """Learn nothing."""

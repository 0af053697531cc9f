"""The interface of a policy."""

from typing import NamedTuple, Protocol

from router.cluster import Cluster
from router.types import Reason, Replica, Reservation, RouteRequest


class Choice(NamedTuple):
    """A policy's answer."""

    replica: Replica
    reason: Reason


class Policy(Protocol):
    """Chooses among `cluster.eligible`, of which there is at least one, without changing the cluster.

    A policy may keep a cursor, a random generator, and beliefs of its own about replicas. It learns from
    `on_reserved` alone: routers are also asked what they would choose, and answering must teach them nothing.
    Beliefs are bounded, and replicas that are no `cluster.replicas` any more are forgotten. It counts and logs nothing.
    """

    name: str

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The replica for this request."""
        ...

    def on_reserved(self, reservation: Reservation) -> None:
        """A request was placed, here or by a peer router; policies with beliefs of their own learn from it."""
        ...


class Unlearning:
    """Base of the policies without beliefs of their own."""

    def on_reserved(self, reservation: Reservation) -> None:
        """Nothing is learned."""

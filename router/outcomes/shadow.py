"""Shadow mode: a policy decides on the same state as the live one, without effect."""

from router.cluster import Cluster
from router.policies.policy import Policy
from router.types import Replica, Reservation, RouteRequest, ShadowChoice, ShadowFault


class Shadow:
    """Asks a policy and lets it learn, as the live one does. Its exceptions stay in here.

    After an exception it is not asked again, and every answer is that fault: it may have missed a reservation, and its
    choice by such a state says nothing.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._fault: ShadowFault | None = None

    def answer(self, request: RouteRequest, cluster: Cluster, *, live: Replica) -> ShadowChoice | ShadowFault:
        """The policy's choice now, before the request is booked at the live policy's replica."""
        if self._fault is None:
            try:
                return self._choose(request, cluster, live)
            except Exception as error:  # noqa: BLE001  whatever it is, the live decision goes on
                self._fault = ShadowFault(self._policy.name, error)
        return self._fault

    def on_reserved(self, reservation: Reservation) -> None:
        """A request was booked at the live policy's replica, here or by a peer."""
        if self._fault is None:
            try:
                self._policy.on_reserved(reservation)
            except Exception as error:  # noqa: BLE001  whatever it is, the live decision goes on
                self._fault = ShadowFault(self._policy.name, error)

    def _choose(self, request: RouteRequest, cluster: Cluster, live: Replica) -> ShadowChoice:
        replica = self._policy.choose(request, cluster).replica
        regret_tokens = 0.0
        if replica != live:
            regret_tokens = _tokens_ahead(request, cluster, replica) - _tokens_ahead(request, cluster, live)
        return ShadowChoice(self._policy.name, replica.replica_id, regret_tokens)


def _tokens_ahead(request: RouteRequest, cluster: Cluster, replica: Replica) -> float:
    """Prefill tokens until the request's first output there: the waiting ones, and its own uncached ones."""
    return cluster.remaining_tokens(replica) + request.num_prompt_tokens - cluster.cached_tokens(replica, request)

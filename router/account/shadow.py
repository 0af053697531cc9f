"""Shadow mode: a policy decides beside the live one, on the same state and without steering."""

from router.cluster import Cluster
from router.policies.policy import Policy
from router.types import Replica, Reservation, RouteRequest, ShadowChoice, ShadowFault


class Shadow:
    """Asks a policy and lets it learn, as the live one does. What it raises stays in here.

    From then on it is out and answers with that fault: it may have missed a reservation, and what it would choose by
    such a belief says nothing.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._fault: ShadowFault | None = None

    def answer(self, request: RouteRequest, cluster: Cluster, *, live: Replica) -> ShadowChoice | ShadowFault:
        """What the policy would choose now, before the request is booked where the live policy sends it."""
        if self._fault is None:
            try:
                return self._choose(request, cluster, live)
            except Exception as error:  # noqa: BLE001  whatever it is, the live decision goes on
                self._fault = ShadowFault(self._policy.name, error)
        return self._fault

    def on_reserved(self, reservation: Reservation) -> None:
        """What really happened."""
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
    """Prefill tokens until the request's first output there: what is waiting, and what of its prompt is not cached."""
    return cluster.remaining_tokens(replica) + request.num_prompt_tokens - cluster.cached_tokens(replica, request)

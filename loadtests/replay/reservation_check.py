"""The routers' reservations, compared with the truth."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from loadtests.replay.processes import ReplicaProcess
from router import RequestId, Router


@dataclass(frozen=True, slots=True)
class ReservationSample:
    """One router's reservations at one moment, compared with the truth."""

    time_s: float
    drift_tokens: int
    """Over the replicas it knows, by how much the router's pending tokens differ from the prefill really left."""
    num_wrong: int
    """Requests that are over and still reserved, or that are outstanding and not reserved."""


class ReservationCheck:
    """The true outstanding requests.

    Args:
        settle_s: what happened less than this long ago need not be known to every router yet.

    """

    def __init__(self, *, settle_s: float) -> None:
        self._settle_s = settle_s
        self._outstanding: dict[RequestId, float] = {}  # when it was sent
        self._finished: deque[tuple[float, RequestId]] = deque()

    @property
    def num_outstanding(self) -> int:
        """Requests that are not over."""
        return len(self._outstanding)

    def sent(self, request_id: RequestId, *, now: float) -> None:
        """A request went to its replica."""
        self._outstanding[request_id] = now

    def finished(self, request_id: RequestId, *, now: float) -> None:
        """A request is over."""
        del self._outstanding[request_id]
        self._finished.append((now, request_id))

    def sample(self, router: Router, replicas: Iterable[ReplicaProcess], *, now: float) -> ReservationSample:
        """Compare one router's reservations with the truth."""
        return ReservationSample(
            now, _drift_tokens(router, replicas), self._num_wrong(router, settled_at=now - self._settle_s)
        )

    def _num_wrong(self, router: Router, *, settled_at: float) -> int:
        load = router.cluster.load
        while self._finished and self._finished[0][0] < settled_at:
            self._finished.popleft()
        booked = {request_id for request_id in self._outstanding if load.outstanding(request_id)}
        num_missing = sum(
            sent_at < settled_at for request_id, sent_at in self._outstanding.items() if request_id not in booked
        )
        num_just_over = sum(load.outstanding(request_id) is not None for _, request_id in self._finished)
        return num_missing + load.num_reservations - len(booked) - num_just_over


def _drift_tokens(router: Router, replicas: Iterable[ReplicaProcess]) -> int:
    load = router.cluster.load
    return sum(
        abs(load[replica.replica_id].pending_tokens - replica.engine.pending_tokens())
        for replica in replicas
        if replica.replica_id in load
    )

"""Load of each replica as this router knows it: what is outstanding there, and the work it was sent lately.

One process's view: its own reservations and its peers', taken back by receipts, and by expiry when a
receipt never comes. Recent work is remembered because paced clients leave nothing outstanding between
two turns: by pending work alone, a replica that gets every conversation would look as idle as the rest.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from math import isclose

from router.fading import Fading
from router.load_order import LoadKey, LoadOrder
from router.state import BookedRequest
from router.types import ReplicaId, RequestId, Reservation


@dataclass(slots=True)
class ReplicaLoad:
    """What is outstanding at one replica."""

    fading: Fading

    pending_tokens: int = 0
    """Prefill tokens not yet computed, over all requests sent there."""
    num_waiting: int = 0
    """Requests without a first token."""
    num_running: int = 0
    """Requests that are being decoded."""
    stored_recent_tokens: float = 0.0
    """As `fading` stores them."""

    @property
    def recent_tokens(self) -> float:
        """Work sent there lately, in prefill tokens, what is pending included; fades."""
        return self.fading.faded(self.stored_recent_tokens)

    @property
    def num_requests(self) -> int:
        """Requests outstanding, waiting or running."""
        return self.num_waiting + self.num_running


@dataclass(slots=True)
class _Claim:
    reservation: Reservation
    pending_tokens: int
    prompt_tokens_left: int
    reserved_at: float
    has_arrived: bool = False

    @property
    def is_waiting(self) -> bool:
        return self.prompt_tokens_left > 0

    @property
    def prefilled_tokens(self) -> int:
        return _waited_for_tokens(self.reservation) - self.prompt_tokens_left


class LoadBook:
    """Pairs every reservation with exactly one release, however the request ends.

    Args:
        half_life_s: how fast recent work fades.
        answer_tokens: the work that a request's answer is, in prefill tokens.
        arrival_ttl_s: a request that its replica, by its own list, does not have after this time is over, or will
            never come. And an ended request is remembered for so long, because a reservation may come after its own
            end (a peer's broadcast overtaken by the receipt) and must not be booked then.
        ttl_s: a reservation without any sign of life for this long is released.

    """

    def __init__(self, *, half_life_s: float, answer_tokens: int, arrival_ttl_s: float, ttl_s: float) -> None:
        self._fading = Fading(half_life_s=half_life_s)
        self._answer_tokens = answer_tokens
        self._arrival_ttl_s = arrival_ttl_s
        self._ttl_s = ttl_s
        self._loads: dict[ReplicaId, ReplicaLoad] = {}
        self._claims: dict[RequestId, _Claim] = {}
        self._replica_to_requests: dict[ReplicaId, dict[RequestId, None]] = {}
        self._request_to_expiry: OrderedDict[RequestId, float] = OrderedDict()  # soonest first
        self._finished: OrderedDict[RequestId, float] = OrderedDict()  # when each ended
        self._order = LoadOrder()
        self._num_waiting = 0
        self._stored_recent_tokens = 0.0

    @property
    def least_loaded_first(self) -> Iterable[ReplicaId]:
        """Every replica, by pending tokens, then requests being decoded, then recent work."""
        return self._order

    @property
    def num_waiting(self) -> int:
        """Requests without a first token, everywhere."""
        return self._num_waiting

    @property
    def recent_tokens(self) -> float:
        """Recent work of all replicas."""
        return self._fading.faded(self._stored_recent_tokens)

    def __contains__(self, replica_id: object) -> bool:
        return replica_id in self._loads

    def __getitem__(self, replica_id: ReplicaId) -> ReplicaLoad:
        return self._loads[replica_id]

    def add_replica(self, replica_id: ReplicaId) -> None:
        """Start counting for a replica."""
        if replica_id not in self._loads:
            self._loads[replica_id] = ReplicaLoad(self._fading)
            self._replica_to_requests[replica_id] = {}
            self._change(replica_id)

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Drop a replica and every reservation on it."""
        for request_id in tuple(self._replica_to_requests[replica_id]):
            self._release(request_id)
        self._change(replica_id, stored_recent_tokens=-self._loads[replica_id].stored_recent_tokens)
        self._order.discard(replica_id)
        del self._loads[replica_id], self._replica_to_requests[replica_id]

    def fade(self, *, now: float) -> None:
        """Let recent work fade up to now."""
        factor = self._fading.advance(now=now)
        if factor is not None:
            for replica_id, load in self._loads.items():
                self._change(replica_id, stored_recent_tokens=load.stored_recent_tokens * (factor - 1))

    def reserve(self, reservation: Reservation, *, now: float) -> bool:
        """Book a request that was sent to a replica.

        Returns False, and books nothing, for an unknown replica, a request booked before or already ended.
        """
        request_id = reservation.request.request_id
        replica_id = reservation.replica_id
        if replica_id not in self._loads or request_id in self._claims or request_id in self._finished:
            return False
        self.fade(now=now)  # or what is booked now would fade with what was booked long ago
        self._claims[request_id] = _Claim(
            reservation,
            pending_tokens=reservation.pending_tokens,
            prompt_tokens_left=_waited_for_tokens(reservation),
            reserved_at=now,
        )
        self._replica_to_requests[replica_id][request_id] = None
        self._request_to_expiry[request_id] = now + self._ttl_s
        self._change(
            replica_id,
            pending_tokens=reservation.pending_tokens,
            num_waiting=1,
            stored_recent_tokens=self._fading.stored(reservation.pending_tokens + self._answer_tokens),
        )
        return True

    def add_recent(self, replica_id: ReplicaId, tokens: float) -> None:
        """Remember more recent work of a replica than was booked here."""
        self._change(replica_id, stored_recent_tokens=self._fading.stored(tokens))

    def arrived(self, request_id: RequestId, *, now: float) -> None:
        """A sign of life from the replica: the request is there."""
        claim = self._claims.get(request_id)
        if claim is not None:
            claim.has_arrived = True
            self._request_to_expiry[request_id] = now + self._ttl_s
            self._request_to_expiry.move_to_end(request_id)

    def reservation(self, request_id: RequestId) -> Reservation | None:
        """The reservation of an outstanding request; None if it is not booked."""
        claim = self._claims.get(request_id)
        return None if claim is None else claim.reservation

    def withdraw(self, request_id: RequestId) -> Reservation | None:
        """Take a reservation back, because its request is elsewhere; it may be booked again.

        Returns the reservation if its prefill was never completed.
        """
        return self._release(request_id) if request_id in self._claims else None

    def lost(self, replica_id: ReplicaId, outstanding: Collection[RequestId], *, now: float) -> list[RequestId]:
        """Requests that a replica, by its own list, does not have any more, or should have by now.

        Those that it lists have shown a sign of life. One that was just sent may still be on its way.
        """
        lost = []
        for request_id in self._replica_to_requests.get(replica_id, ()):
            if request_id in outstanding:
                self.arrived(request_id, now=now)
            elif self._is_due(request_id, now=now):
                lost.append(request_id)
        return lost

    def missed(
        self, replica_id: ReplicaId, request_to_prefilled_tokens: Mapping[RequestId, int]
    ) -> list[tuple[RequestId, int]]:
        """Requests booked at a replica of which it says that more had a first output than its receipts did.

        With the prompt tokens that no receipt told of.
        """
        booked = self._replica_to_requests.get(replica_id, {})
        missed = [
            (request_id, prefilled_tokens - self._claims[request_id].prefilled_tokens)
            for request_id, prefilled_tokens in request_to_prefilled_tokens.items()
            if request_id in booked
        ]
        return [(request_id, missed_tokens) for request_id, missed_tokens in missed if missed_tokens > 0]

    def prefilled(self, request_id: RequestId, *, prompt_tokens: int, now: float) -> Reservation | None:
        """The engine computed `prompt_tokens` of the request's prompt: all of it, or one prompt of a list.

        Returns the reservation when that completed its prefill.
        """
        self.arrived(request_id, now=now)
        claim = self._claims.get(request_id)
        if claim is None or not claim.is_waiting:
            return None
        done_tokens = min(max(prompt_tokens, 1), claim.prompt_tokens_left)
        released_tokens = claim.pending_tokens * done_tokens // claim.prompt_tokens_left
        claim.prompt_tokens_left -= done_tokens
        claim.pending_tokens -= released_tokens
        num_started = not claim.is_waiting
        self._change(
            claim.reservation.replica_id,
            pending_tokens=-released_tokens,
            num_waiting=-num_started,
            num_running=num_started,
        )
        return claim.reservation if num_started else None

    def finished(self, request_id: RequestId, *, now: float) -> Reservation | None:
        """The request ended. Returns its reservation if it never completed its prefill."""
        self._finished[request_id] = now
        self._finished.move_to_end(request_id)
        self._forget(now=now)
        return self.withdraw(request_id)

    def expired(self, *, now: float) -> list[RequestId]:
        """Requests without a sign of life for longer than their TTL; they stay booked until `finished`."""
        return [request_id for request_id, _ in takewhile(lambda item: item[1] <= now, self._request_to_expiry.items())]

    def export(self, replica_id: ReplicaId) -> tuple[BookedRequest, ...]:
        """What is outstanding at a replica, for a router that joins."""
        return tuple(
            BookedRequest(claim.reservation, claim.pending_tokens, claim.prompt_tokens_left, claim.has_arrived)
            for claim in map(self._claims.__getitem__, self._replica_to_requests[replica_id])
        )

    def adopt(self, booked: BookedRequest, *, now: float) -> None:
        """Book a request as a peer has it; what is known or ended here already stays as it is."""
        if not self.reserve(booked.reservation, now=now):
            return
        request_id = booked.reservation.request.request_id
        if booked.has_arrived:
            self.arrived(request_id, now=now)
        claim = self._claims[request_id]
        pending_tokens = booked.pending_tokens - claim.pending_tokens
        claim.pending_tokens, claim.prompt_tokens_left = booked.pending_tokens, booked.prompt_tokens_left
        num_started = not claim.is_waiting
        self._change(
            booked.reservation.replica_id,
            pending_tokens=pending_tokens,
            num_waiting=-num_started,
            num_running=num_started,
        )

    @property
    def num_remembered(self) -> int:
        """Ended requests that are remembered."""
        return len(self._finished)

    @property
    def num_reservations(self) -> int:
        """Requests booked and not yet ended."""
        return len(self._claims)

    def _is_due(self, request_id: RequestId, *, now: float) -> bool:
        claim = self._claims[request_id]
        return claim.has_arrived or claim.reserved_at + self._arrival_ttl_s <= now

    def _forget(self, *, now: float) -> None:
        """Ended requests whose reservation cannot be under way any more."""
        while self._finished and next(iter(self._finished.values())) <= now - self._arrival_ttl_s:
            self._finished.popitem(last=False)

    def _release(self, request_id: RequestId) -> Reservation | None:
        claim = self._claims.pop(request_id)
        del self._request_to_expiry[request_id]
        replica_id = claim.reservation.replica_id
        del self._replica_to_requests[replica_id][request_id]
        is_waiting = claim.is_waiting
        self._change(
            replica_id, pending_tokens=-claim.pending_tokens, num_waiting=-is_waiting, num_running=-(not is_waiting)
        )
        return claim.reservation if is_waiting else None

    def _change(
        self,
        replica_id: ReplicaId,
        *,
        pending_tokens: int = 0,
        num_waiting: int = 0,
        num_running: int = 0,
        stored_recent_tokens: float = 0.0,
    ) -> None:
        """Add to a replica's load, and keep totals and order right. The one place where loads change."""
        load = self._loads[replica_id]
        load.pending_tokens += pending_tokens
        load.num_waiting += num_waiting
        load.num_running += num_running
        load.stored_recent_tokens += stored_recent_tokens
        self._num_waiting += num_waiting
        self._stored_recent_tokens += stored_recent_tokens
        self._order.put(self._key(replica_id))

    def _key(self, replica_id: ReplicaId) -> LoadKey:
        load = self._loads[replica_id]
        return LoadKey(load.pending_tokens, load.num_running, load.stored_recent_tokens, replica_id)

    def check_integrity(self) -> None:
        """Assert that the totals are the sum of the reservations."""
        assert self._loads.keys() == self._replica_to_requests.keys()
        assert sum(map(len, self._replica_to_requests.values())) == len(self._claims)
        for replica_id, load in self._loads.items():
            claims = [self._claims[request_id] for request_id in self._replica_to_requests[replica_id]]
            assert all(claim.reservation.replica_id == replica_id for claim in claims), replica_id
            num_waiting = sum(claim.is_waiting for claim in claims)
            assert load.pending_tokens == sum(claim.pending_tokens for claim in claims), (replica_id, load)
            assert load.num_waiting == num_waiting, (replica_id, load)
            assert load.num_running == len(claims) - num_waiting, (replica_id, load)
        self._order.check_integrity()
        assert list(self._order) == sorted(self._loads, key=self._key)
        assert self._num_waiting == sum(load.num_waiting for load in self._loads.values())
        stored_tokens = sum(load.stored_recent_tokens for load in self._loads.values())
        assert isclose(self.recent_tokens, self._fading.faded(stored_tokens), rel_tol=1e-6, abs_tol=1e-6)
        assert list(self._finished.values()) == sorted(self._finished.values()), "ended requests are not in order"
        assert self._claims.keys() == self._request_to_expiry.keys()
        expiries = list(self._request_to_expiry.values())
        assert expiries == sorted(expiries), "reservations are not in order of expiry"


def _waited_for_tokens(reservation: Reservation) -> int:
    """A request of unknown length still waits for its first token."""
    return max(reservation.request.num_prompt_tokens, 1)

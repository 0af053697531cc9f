"""What this router has sent where, and what became of it.

One process's view: its own reservations and its peers', taken back by receipts, and by expiry when a receipt never
comes.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from router.load_table import LoadTable, ReplicaLoad
from router.progress import Progress
from router.state import BookedRequest, ProgressState
from router.types import BlockHash, ReplicaId, RequestId, Reservation


@dataclass(slots=True)
class _Desk:
    """All about one replica."""

    requests: dict[RequestId, None] = field(default_factory=dict)
    """In the order in which they were sent."""
    waiting: dict[RequestId, "_Claim"] = field(default_factory=dict)
    """Those without a first token; the first is the one being computed, as engines serve who comes first."""
    progress: Progress = field(default_factory=Progress)


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
        self._table = LoadTable(half_life_s=half_life_s)
        self._answer_tokens = answer_tokens
        self._arrival_ttl_s = arrival_ttl_s
        self._ttl_s = ttl_s
        self._desks: dict[ReplicaId, _Desk] = {}
        self._claims: dict[RequestId, _Claim] = {}
        self._request_to_expiry: OrderedDict[RequestId, float] = OrderedDict()  # soonest first
        self._finished: OrderedDict[RequestId, float] = OrderedDict()  # when each ended

    @property
    def least_loaded_first(self) -> Iterable[ReplicaId]:
        """Every replica, by pending tokens, then requests being decoded, then recent work."""
        return self._table.least_loaded_first

    @property
    def total(self) -> ReplicaLoad:
        """Of all replicas together."""
        return self._table.total

    def __contains__(self, replica_id: object) -> bool:
        return replica_id in self._table

    def __getitem__(self, replica_id: ReplicaId) -> ReplicaLoad:
        return self._table[replica_id]

    def remaining_tokens(self, replica_id: ReplicaId, *, now: float) -> float:
        """Pending tokens, without those of the prompt being computed that have been computed by now, by guess."""
        desk = self._desks[replica_id]
        if not desk.waiting:
            return self[replica_id].pending_tokens
        head = next(iter(desk.waiting.values()))
        return self[replica_id].pending_tokens - min(head.pending_tokens, desk.progress.tokens(now=now))

    def add_replica(self, replica_id: ReplicaId) -> None:
        """Start counting for a replica."""
        if replica_id not in self._desks:
            self._desks[replica_id] = _Desk()
            self._table.add(replica_id)

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Drop a replica and every reservation on it."""
        for request_id in tuple(self._desks[replica_id].requests):
            self._release(request_id)
        self._table.remove(replica_id)
        del self._desks[replica_id]

    def fade(self, *, now: float) -> float | None:
        """Let recent work fade up to now; returns the factor for everything stored, where an epoch ends."""
        return self._table.fade(now=now)

    def reserve(self, reservation: Reservation, *, now: float) -> bool:
        """Book a request that was sent to a replica.

        Returns False, and books nothing, for an unknown replica, a request booked before or already ended.
        """
        request_id = reservation.request.request_id
        replica_id = reservation.replica_id
        desk = self._desks.get(replica_id)
        if desk is None or request_id in self._claims or request_id in self._finished:
            return False
        self.fade(now=now)  # or what is booked now would fade with what was booked long ago
        claim = self._claims[request_id] = _Claim(
            reservation,
            pending_tokens=reservation.pending_tokens,
            prompt_tokens_left=_waited_for_tokens(reservation),
            reserved_at=now,
        )
        if not desk.waiting:
            desk.progress.start(now=now)
        desk.requests[request_id] = None
        desk.waiting[request_id] = claim
        self._request_to_expiry[request_id] = now + self._ttl_s
        self._table.change(replica_id, pending_tokens=reservation.pending_tokens, num_waiting=1)
        self._table.add_recent(replica_id, tokens=self.work(reservation), requests=1)
        return True

    def stored(self, amount: float) -> float:
        """An amount of now, in the units of what is stored and fades."""
        return self._table.stored(amount)

    @property
    def mean_stored_tokens(self) -> float:
        """Recent work of a replica on average, in these units."""
        return self.total.stored_recent_tokens / len(self._desks) if self._desks else 0.0

    def work(self, reservation: Reservation) -> int:
        """What a request is for its replica, in prefill tokens."""
        return reservation.pending_tokens + self._answer_tokens

    def add_recent(self, replica_id: ReplicaId, *, tokens: float, requests: float) -> None:
        """Remember more recent work of a replica than was booked here."""
        self._table.add_recent(replica_id, tokens=tokens, requests=requests)

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

    def prompts(self, replica_id: ReplicaId) -> list[Sequence[BlockHash]]:
        """The blocks of every prompt outstanding at a replica, in no order."""
        return [self._claims[each].reservation.request.block_hashes for each in self._desks[replica_id].requests]

    def request_to_prompt(self, replica_id: ReplicaId) -> dict[RequestId, Sequence[BlockHash]]:
        """The blocks of every prompt outstanding at a replica."""
        return {each: self._claims[each].reservation.request.block_hashes for each in self._desks[replica_id].requests}

    def withdraw(self, request_id: RequestId) -> Reservation | None:
        """Take a reservation back, because its request is elsewhere; it may be booked again.

        Returns the reservation if its prefill was never completed.
        """
        return self._release(request_id) if request_id in self._claims else None

    def lost(self, replica_id: ReplicaId, outstanding: Collection[RequestId], *, now: float) -> list[RequestId]:
        """Requests that a replica, by its own list, does not have any more, or should have by now.

        Those that it lists have shown a sign of life. One that was just sent may still be on its way.
        """
        desk = self._desks.get(replica_id)
        lost = []
        for request_id in () if desk is None else desk.requests:
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
        desk = self._desks.get(replica_id)
        missed = [
            (request_id, request_to_prefilled_tokens[request_id] - claim.prefilled_tokens)
            for request_id, claim in (() if desk is None else desk.waiting.items())
            if request_id in request_to_prefilled_tokens
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
        self._desks[claim.reservation.replica_id].progress.prefilled(released_tokens, now=now)
        self._after_prefill(claim, released_tokens)
        return None if claim.is_waiting else claim.reservation

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
            for claim in map(self._claims.__getitem__, self._desks[replica_id].requests)
        )

    def export_progress(self, replica_id: ReplicaId, *, now: float) -> ProgressState:
        """How a replica comes on, for a router that joins."""
        return self._desks[replica_id].progress.export(now=now)

    def adopt_progress(self, replica_id: ReplicaId, state: ProgressState, *, now: float) -> None:
        """Take a replica's progress to be as a peer knows it."""
        self._desks[replica_id].progress.adopt(state, now=now)

    def adopt(self, booked: BookedRequest, *, now: float) -> None:
        """Book a request as a peer has it; what is known or ended here already stays as it is."""
        if not self.reserve(booked.reservation, now=now):
            return
        request_id = booked.reservation.request.request_id
        if booked.has_arrived:
            self.arrived(request_id, now=now)
        claim = self._claims[request_id]
        released_tokens = claim.pending_tokens - booked.pending_tokens
        claim.pending_tokens, claim.prompt_tokens_left = booked.pending_tokens, booked.prompt_tokens_left
        self._after_prefill(claim, released_tokens)

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
        desk = self._desks[replica_id]
        del desk.requests[request_id]
        is_waiting = desk.waiting.pop(request_id, None) is not None
        self._table.change(
            replica_id, pending_tokens=-claim.pending_tokens, num_waiting=-is_waiting, num_running=-(not is_waiting)
        )
        return claim.reservation if is_waiting else None

    def _after_prefill(self, claim: _Claim, released_tokens: int) -> None:
        """Release tokens; a request whose prompt is complete waits no more."""
        replica_id = claim.reservation.replica_id
        if claim.is_waiting:
            self._table.change(replica_id, pending_tokens=-released_tokens)
            return
        del self._desks[replica_id].waiting[claim.reservation.request.request_id]
        self._table.change(replica_id, pending_tokens=-released_tokens, num_waiting=-1, num_running=1)

    def check_integrity(self) -> None:
        """Assert that the totals are the sum of the reservations."""
        assert sum(len(desk.requests) for desk in self._desks.values()) == len(self._claims)
        for replica_id, desk in self._desks.items():
            load = self[replica_id]
            claims = [self._claims[request_id] for request_id in desk.requests]
            assert desk.waiting.keys() == {
                request_id for request_id in desk.requests if self._claims[request_id].is_waiting
            }
            assert all(claim.reservation.replica_id == replica_id for claim in claims), replica_id
            num_waiting = sum(claim.is_waiting for claim in claims)
            assert load.pending_tokens == sum(claim.pending_tokens for claim in claims), (replica_id, load)
            assert load.num_waiting == num_waiting, (replica_id, load)
            assert load.num_running == len(claims) - num_waiting, (replica_id, load)
        self._table.check_integrity()
        assert list(self._finished.values()) == sorted(self._finished.values()), "ended requests are not in order"
        assert self._claims.keys() == self._request_to_expiry.keys()
        expiries = list(self._request_to_expiry.values())
        assert expiries == sorted(expiries), "reservations are not in order of expiry"


def _waited_for_tokens(reservation: Reservation) -> int:
    """A request of unknown length still waits for its first token."""
    return max(reservation.request.num_prompt_tokens, 1)

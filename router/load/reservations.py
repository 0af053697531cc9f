"""What this router has sent where, and what became of it.

One process's view: its own reservations and its peers', taken back by receipts, and by expiry when a receipt never
comes.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from router.load.engine_model import EngineModel
from router.load.progress import Progress
from router.load.table import LoadChange, LoadTable, ReplicaLoad
from router.load.waiting_work import WaitingWork
from router.state import BookedRequest, ProgressState
from router.types import BlockHash, EngineLoad, ReplicaId, RequestId, Reservation


@dataclass(slots=True)
class _Desk:
    """All about one replica."""

    load: ReplicaLoad
    requests: dict[RequestId, None] = field(default_factory=dict)
    """In the order in which they were sent."""
    waiting: dict[RequestId, "_Claim"] = field(default_factory=dict)
    """Those whose prompts are not all computed; the first is taken to be the one being computed."""
    waiting_work: WaitingWork = field(default_factory=WaitingWork)
    progress: Progress = field(default_factory=Progress)

    def remaining_work_s(self, *, now: float, late_s: float) -> float:
        """Of what is pending, what has not been computed by now, by guess; at the model's speed."""
        pending_s = self.load.pending_s
        if not pending_s:
            return 0.0
        head = next(iter(self.waiting.values()))
        done_s = min(self.progress.work_s(now=now + late_s), head.pending_s + self.progress.speed * late_s)
        return max(0.0, pending_s - done_s)

    def overtaken_work_s(self, prefill_s: float) -> float:
        """By how much those behind the first are longer than this, in all; at the model's speed."""
        if not self.waiting:
            return 0.0
        head = next(iter(self.waiting.values()))
        return max(0.0, self.waiting_work.beyond_s(prefill_s) - max(0.0, head.pending_s - prefill_s))


@dataclass(slots=True)
class _Claim:
    reservation: Reservation
    pending_tokens: int
    pending_s: float
    prompt_tokens: int
    """A prompt of unknown length still waits for its first token."""
    prompt_tokens_left: int
    num_sequences: int
    answer_tokens: float
    """Of each answer."""
    reserved_at: float
    begins_at: float
    """When its replica can be heard to begin with it at the earliest."""
    has_arrived: bool = False

    @property
    def is_waiting(self) -> bool:
        return self.prompt_tokens_left > 0

    @property
    def outstanding(self) -> LoadChange:
        """What it counts for now. Of its sequences as large a part waits as of its prompts is left, rounded up: those
        of one prompt get their first tokens together.
        """
        prefilled_tokens = self.prompt_tokens - self.prompt_tokens_left
        num_running = self.num_sequences * prefilled_tokens // self.prompt_tokens
        num_waiting = self.num_sequences - num_running
        return LoadChange(
            self.pending_tokens,
            self.pending_s,
            num_waiting,
            num_running,
            num_waiting * self.answer_tokens,
            num_running * self.answer_tokens,
            prefilled_tokens * self.reservation.request.num_choices,
            1,
        )

    @property
    def prefilled_tokens(self) -> int:
        return self.prompt_tokens - self.prompt_tokens_left


_NOTHING = LoadChange()


class LoadBook:
    """Pairs every reservation with exactly one release, however the request ends.

    Args:
        model: how long engines take.
        half_life_s: how fast recent work fades.
        answer_tokens: the work that an answer is, in prefill tokens.
        arrival_ttl_s: a request that its replica, by its own list, does not have after this time is over, or will
            never come. And an ended request is remembered for so long, because a reservation may come after its own
            end (a peer's broadcast overtaken by the receipt) and must not be booked then.
        ttl_s: a reservation without any sign of life for this long is released.

    """

    def __init__(
        self, *, model: EngineModel, half_life_s: float, answer_tokens: int, arrival_ttl_s: float, ttl_s: float
    ) -> None:
        self._model = model
        self._half_life_s = half_life_s
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
        """Every replica, by pending tokens, then sequences being decoded, then recent work."""
        return self._table.least_loaded_first

    @property
    def total(self) -> ReplicaLoad:
        """Of all replicas together."""
        return self._table.total

    def __contains__(self, replica_id: object) -> bool:
        return replica_id in self._table

    def __getitem__(self, replica_id: ReplicaId) -> ReplicaLoad:
        return self._desks[replica_id].load

    def remaining_s(self, replica_id: ReplicaId, *, now: float, late_s: float = 0.0) -> float:
        """How long the replica computes what is pending, without what of it has been computed by now, by guess.

        The prompt being computed was not complete when the last news left, so many seconds ago.
        """
        desk = self._desks[replica_id]
        return desk.remaining_work_s(now=now, late_s=late_s) / desk.progress.speed

    def overtaken_s(self, replica_id: ReplicaId, *, prefill_s: float) -> float:
        """How much less remains there for a prompt that takes so long, if the shortest goes first.

        It waits for the one being computed, to the end. Of each other, either waits for the other, for as long as the
        shorter takes.
        """
        desk = self._desks[replica_id]
        return desk.overtaken_work_s(prefill_s) / desk.progress.speed

    def remaining_tokens(self, replica_id: ReplicaId, *, now: float, late_s: float = 0.0) -> float:
        """The prompt tokens that these are."""
        desk = self._desks[replica_id]
        if not desk.load.pending_s:
            return 0.0
        return desk.load.pending_tokens * (desk.remaining_work_s(now=now, late_s=late_s) / desk.load.pending_s)

    @property
    def requests_per_s(self) -> float:
        """How many requests were booked a second, lately: what fades by half in a time, and is in balance."""
        return self.total.recent_requests * math.log(2) / self._half_life_s

    def set_engine(self, replica_id: ReplicaId, engine: EngineLoad) -> None:
        """An engine's own numbers, as of now."""
        load = self._desks[replica_id].load
        load.engine, load.computed_since_tokens = engine, 0

    def adopt_engine(self, replica_id: ReplicaId, engine: EngineLoad | None, *, computed_since_tokens: int) -> None:
        """An engine's numbers as a peer knows them; those told to us are as good."""
        load = self._desks[replica_id].load
        if load.engine is None:
            load.engine, load.computed_since_tokens = engine, computed_since_tokens

    def speed(self, replica_id: ReplicaId) -> float:
        """How fast a replica computes, as a multiple of the model's speed; 1 where that is not known."""
        return self._desks[replica_id].progress.speed

    def add_replica(self, replica_id: ReplicaId) -> None:
        """Start counting for a replica."""
        if replica_id not in self._desks:
            self._desks[replica_id] = _Desk(self._table.add(replica_id))

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Drop a replica and every reservation on it."""
        for request_id in tuple(self._desks[replica_id].requests):
            self._release(request_id)
        self._table.remove(replica_id)
        del self._desks[replica_id]

    def fade(self, *, now: float) -> float | None:
        """Let recent work fade up to now; returns the factor for everything stored, where an epoch ends."""
        return self._table.fade(now=now)

    def reserve(self, reservation: Reservation, *, answer_tokens: float, now: float, late_s: float = 0.0) -> bool:
        """Book a request that was sent to a replica, of which each answer is expected to have so many tokens.

        What its replica tells of it takes so many seconds from now, if it begins with it at once.

        Returns False, and books nothing, for an unknown replica, a request booked before or already ended.
        """
        request_id = reservation.request.request_id
        replica_id = reservation.replica_id
        desk = self._desks.get(replica_id)
        if desk is None or request_id in self._claims or request_id in self._finished:
            return False
        self.fade(now=now)  # or what is booked now would fade with what was booked long ago
        request = reservation.request
        prompt_tokens = max(request.num_prompt_tokens, 1)
        claim = self._claims[request_id] = _Claim(
            reservation,
            pending_tokens=reservation.pending_tokens,
            pending_s=self._pending_s(reservation),
            prompt_tokens=prompt_tokens,
            prompt_tokens_left=prompt_tokens,
            num_sequences=request.num_sequences,
            answer_tokens=answer_tokens,
            reserved_at=now,
            begins_at=now + late_s,
        )
        if not desk.waiting:
            desk.progress.start(now=claim.begins_at)
        desk.requests[request_id] = None
        desk.waiting[request_id] = claim
        desk.waiting_work.add(claim.pending_s)
        self._request_to_expiry[request_id] = now + self._ttl_s
        self._table.book(replica_id, claim.outstanding, tokens=self.work(reservation))
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
        return reservation.pending_tokens + self._answer_tokens * reservation.request.num_sequences

    def add_recent(self, replica_id: ReplicaId, *, tokens: float, requests: float) -> None:
        """Remember more recent work of a replica than was booked here."""
        self._table.add_recent(replica_id, tokens=tokens, requests=requests)

    def arrived(self, request_id: RequestId, *, now: float) -> float | None:
        """A sign of life from the replica: the request is there. Returns for the first one how many seconds ago it was
        booked, None otherwise.
        """
        claim = self._claims.get(request_id)
        if claim is None:
            return None
        delay_s = None if claim.has_arrived else now - claim.reserved_at
        claim.has_arrived = True
        self._request_to_expiry[request_id] = now + self._ttl_s
        self._request_to_expiry.move_to_end(request_id)
        return delay_s

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
        """The engine computed `prompt_tokens`: one prompt of a list, or the only one, however long it was taken to be.

        Returns the reservation when that completed its prefill.
        """
        self.arrived(request_id, now=now)
        claim = self._claims.get(request_id)
        if claim is None or not claim.is_waiting:
            return None
        done_tokens = claim.prompt_tokens_left
        if claim.reservation.request.num_prompts > 1:
            done_tokens = min(max(prompt_tokens, 1), done_tokens)
        replica_id = claim.reservation.replica_id
        desk = self._desks[replica_id]
        released_s = claim.pending_s * done_tokens / claim.prompt_tokens_left
        released_tokens = claim.pending_tokens * done_tokens // claim.prompt_tokens_left
        desk.progress.prefilled(released_s, steps_s=self._steps_s(replica_id), now=now)
        self._release_prefilled(claim, claim.prompt_tokens_left - done_tokens, released_tokens, released_s)
        if desk.waiting:
            desk.progress.start(now=max(now, next(iter(desk.waiting.values())).begins_at))
        self._desks[replica_id].load.computed_since_tokens += released_tokens
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
            BookedRequest(
                claim.reservation,
                claim.pending_tokens,
                claim.prompt_tokens_left,
                claim.has_arrived,
                answer_tokens=claim.answer_tokens,
            )
            for claim in map(self._claims.__getitem__, self._desks[replica_id].requests)
        )

    def export_progress(self, replica_id: ReplicaId, *, now: float) -> ProgressState:
        """How a replica comes on, for a router that joins."""
        return self._desks[replica_id].progress.export(now=now)

    def adopt_progress(self, replica_id: ReplicaId, state: ProgressState, *, now: float) -> None:
        """Take a replica's progress to be as a peer knows it."""
        self._desks[replica_id].progress.adopt(state, now=now)

    def adopt(self, booked: BookedRequest, *, answer_tokens: float, now: float) -> None:
        """Book a request as a peer has it; what is known or ended here already stays as it is."""
        if not self.reserve(booked.reservation, answer_tokens=answer_tokens, now=now):
            return
        request_id = booked.reservation.request.request_id
        if booked.has_arrived:
            self.arrived(request_id, now=now)
        claim = self._claims[request_id]
        released_tokens = claim.pending_tokens - booked.pending_tokens
        released_s = claim.pending_s * released_tokens / claim.pending_tokens if claim.pending_tokens else 0.0
        self._release_prefilled(claim, booked.prompt_tokens_left, released_tokens, released_s)

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

    def _pending_s(self, reservation: Reservation) -> float:
        num_cached_tokens = reservation.request.num_prompt_tokens - reservation.pending_tokens
        return self._model.prefill_s(reservation.pending_tokens, num_before=num_cached_tokens)

    def _steps_s(self, replica_id: ReplicaId) -> float:
        """What a prefill takes beside its work, by the model: half of a step that it waits for, and one of its own."""
        load = self[replica_id]
        decoding_s = self._model.decode_step_s(load.num_running, context_tokens=load.context_tokens)
        return 1.5 * (self._model.step_s + decoding_s)

    def _release(self, request_id: RequestId) -> Reservation | None:
        claim = self._claims.pop(request_id)
        del self._request_to_expiry[request_id]
        replica_id = claim.reservation.replica_id
        desk = self._desks[replica_id]
        del desk.requests[request_id]
        is_waiting = desk.waiting.pop(request_id, None) is not None
        if is_waiting:
            desk.waiting_work.remove(claim.pending_s)
        self._table.change(replica_id, _NOTHING.since(claim.outstanding))
        return claim.reservation if is_waiting else None

    def _release_prefilled(
        self, claim: _Claim, prompt_tokens_left: int, released_tokens: int, released_s: float
    ) -> None:
        """Release what was computed; a request whose prompt is complete waits no more."""
        replica_id = claim.reservation.replica_id
        desk = self._desks[replica_id]
        before = claim.outstanding
        desk.waiting_work.remove(claim.pending_s)
        claim.prompt_tokens_left = prompt_tokens_left
        if claim.is_waiting:
            claim.pending_tokens -= released_tokens
            claim.pending_s -= released_s
            desk.waiting_work.add(claim.pending_s)
        else:
            claim.pending_tokens, claim.pending_s = 0, 0.0
            del desk.waiting[claim.reservation.request.request_id]
        self._table.change(replica_id, claim.outstanding.since(before))

    def check_integrity(self) -> None:
        """Assert that the totals are the sum of the reservations."""
        assert sum(len(desk.requests) for desk in self._desks.values()) == len(self._claims)
        for replica_id, desk in self._desks.items():
            load = self[replica_id]
            claims = [self._claims[request_id] for request_id in desk.requests]
            assert desk.waiting.keys() == {
                request_id for request_id in desk.requests if self._claims[request_id].is_waiting
            }
            desk.waiting_work.check_integrity([claim.pending_s for claim in desk.waiting.values()])
            assert all(claim.reservation.replica_id == replica_id for claim in claims), replica_id
            assert load.num_sequences == sum(claim.reservation.request.num_sequences for claim in claims), replica_id
            _check_sums(load, claims)
        self._table.check_integrity()
        assert list(self._finished.values()) == sorted(self._finished.values()), "ended requests are not in order"
        assert self._claims.keys() == self._request_to_expiry.keys()
        expiries = list(self._request_to_expiry.values())
        assert expiries == sorted(expiries), "reservations are not in order of expiry"


def _check_sums(load: ReplicaLoad, claims: Iterable[_Claim]) -> None:
    """Assert that what is outstanding is the sum of these, but for rounding."""
    changes = [claim.outstanding for claim in claims]
    for name in LoadChange._fields:
        summed = sum(getattr(change, name) for change in changes)
        assert math.isclose(getattr(load, name), summed, rel_tol=1e-6, abs_tol=1e-6), (name, summed, load)

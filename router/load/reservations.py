"""The requests that this router knows to be outstanding, and the load that they are.

One process's view: its own reservations and its peers', released by receipts, and by expiry when a receipt never comes.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile

from router.belief.eviction import Use
from router.load.engine_model import EngineModel
from router.load.outstanding import Outstanding
from router.load.replica_queue import ReplicaQueue
from router.load.table import LoadChange, LoadTable, ReplicaLoad
from router.state import BookedRequest, ProgressState
from router.types import BlockHash, EngineLoad, ReplicaId, RequestId, Reservation

_NOTHING = LoadChange()


class Reservations:
    """Pairs every reservation with exactly one release, however the request ends.

    Args:
        model: the time that engines need.
        half_life_s: the time in which the memory of recent work fades by half.
        answer_tokens: the work of an answer, in prefill tokens.
        arrival_ttl_s: a request that its replica's own list does not contain after this time is over, or will never
            come. An ended request is remembered for the same time: a reservation may come after its own end, when a
            receipt overtakes a peer's broadcast, and must not be booked then.
        ttl_s: a reservation without any sign of life for this long is released.

    """

    def __init__(
        self, *, model: EngineModel, half_life_s: float, answer_tokens: int, arrival_ttl_s: float, ttl_s: float
    ) -> None:
        self.model = model
        self._half_life_s = half_life_s
        self._answer_tokens = answer_tokens
        self._arrival_ttl_s = arrival_ttl_s
        self._ttl_s = ttl_s
        self._table = LoadTable(half_life_s=half_life_s)
        self._queues: dict[ReplicaId, ReplicaQueue] = {}
        self._outstanding: OrderedDict[RequestId, Outstanding] = OrderedDict()  # the soonest to expire first
        self._ended: OrderedDict[RequestId, float] = OrderedDict()  # when each ended, the earliest first

    # The load

    @property
    def least_loaded_first(self) -> Iterable[ReplicaId]:
        """Every replica, by pending tokens, then sequences being decoded, then recent work."""
        return self._table.least_loaded_first

    @property
    def total(self) -> ReplicaLoad:
        """Load of all replicas together."""
        return self._table.total

    def __contains__(self, replica_id: object) -> bool:
        return replica_id in self._queues

    def __getitem__(self, replica_id: ReplicaId) -> ReplicaLoad:
        return self._queues[replica_id].load

    def remaining_s(self, replica_id: ReplicaId, *, now: float, late_s: float = 0.0) -> float:
        """Estimated time until the replica has computed its pending prompts, in seconds.

        The last news left the replica `late_s` ago; the prompt being computed was not complete then.
        """
        queue = self._queues[replica_id]
        return queue.remaining_work_s(now=now, late_s=late_s) / queue.progress.speed

    def overtaken_s(self, replica_id: ReplicaId, *, prefill_s: float) -> float:
        """Seconds of the remaining work that a prompt of this length overtakes, if the shortest goes first.

        It waits for the prompt being computed, to the end. Of it and any other prompt, either waits for the other as
        long as the shorter one takes.
        """
        queue = self._queues[replica_id]
        return queue.overtaken_work_s(prefill_s) / queue.progress.speed

    def remaining_tokens(self, replica_id: ReplicaId, *, now: float, late_s: float = 0.0) -> float:
        """The remaining time of `remaining_s`, as prompt tokens."""
        queue = self._queues[replica_id]
        if not queue.load.pending_s:
            return 0.0
        return queue.load.pending_tokens * (queue.remaining_work_s(now=now, late_s=late_s) / queue.load.pending_s)

    @property
    def requests_per_s(self) -> float:
        """Recently booked requests a second: an amount that fades by half in a time, in balance."""
        return self.total.recent_requests * math.log(2) / self._half_life_s

    def speed(self, replica_id: ReplicaId) -> float:
        """Speed of a replica as a multiple of the model's; 1 where it is not known."""
        return self._queues[replica_id].progress.speed

    def work(self, reservation: Reservation) -> int:
        """Work of a request for its replica, in prefill tokens."""
        return reservation.pending_tokens + self._answer_tokens * reservation.request.num_sequences

    def stored(self, amount: float) -> float:
        """An amount of now, in the units of stored amounts that fade."""
        return self._table.stored(amount)

    @property
    def mean_stored_tokens(self) -> float:
        """Mean recent work of a replica, in the units of stored amounts."""
        return self.total.stored_recent_tokens / len(self._queues) if self._queues else 0.0

    def fade(self, *, now: float) -> float | None:
        """Let recent work fade up to now. Returns the factor for all stored amounts where an epoch ends, else None."""
        return self._table.fade(now=now)

    def add_recent(self, replica_id: ReplicaId, *, tokens: float, requests: float) -> None:
        """Remember recent work of a replica that was not booked here."""
        self._table.add_recent(replica_id, tokens=tokens, requests=requests)

    def set_engine(self, replica_id: ReplicaId, engine: EngineLoad) -> None:
        """Take over an engine's own numbers, as of now."""
        load = self._queues[replica_id].load
        load.engine, load.computed_since_tokens = engine, 0

    # The replicas

    def add_replica(self, replica_id: ReplicaId) -> None:
        """Start counting for a replica."""
        if replica_id not in self._queues:
            self._queues[replica_id] = ReplicaQueue(self._table.add(replica_id))

    def remove_replica(self, replica_id: ReplicaId) -> None:
        """Drop a replica and every reservation on it."""
        for request_id in tuple(self._queues[replica_id].requests):
            self.withdraw(request_id)
        self._table.remove(replica_id)
        del self._queues[replica_id]

    # The requests

    def outstanding(self, request_id: RequestId) -> Outstanding | None:
        """An outstanding request; None if it is not booked."""
        return self._outstanding.get(request_id)

    def outstanding_at(self, replica_id: ReplicaId) -> Collection[Outstanding]:
        """Every request that is outstanding at a replica, in the order in which they were sent."""
        return self._queues[replica_id].requests.values()

    def use_to_prompt(self, replica_id: ReplicaId) -> dict[Use, Sequence[BlockHash]]:
        """The blocks of every prompt that is outstanding at a replica."""
        requests = self.outstanding_at(replica_id)
        return {outstanding.use: outstanding.reservation.request.block_hashes for outstanding in requests}

    def prompts(self, replica_id: ReplicaId) -> list[Sequence[BlockHash]]:
        """The blocks of every prompt that is outstanding at a replica."""
        return [outstanding.reservation.request.block_hashes for outstanding in self.outstanding_at(replica_id)]

    @property
    def num_reservations(self) -> int:
        """Requests that are booked and not over."""
        return len(self._outstanding)

    @property
    def num_remembered(self) -> int:
        """Ended requests that are remembered."""
        return len(self._ended)

    def reserve(
        self, reservation: Reservation, *, answer_tokens: float, now: float, late_s: float = 0.0
    ) -> Outstanding | None:
        """Book a request that was sent to a replica, each answer of which is expected to be `answer_tokens` long.

        News of its beginning take at least `late_s` from now. Returns None, and books nothing, for an unknown replica
        and for a request that was booked before or is over.
        """
        request_id, queue = reservation.request.request_id, self._queues.get(reservation.replica_id)
        if queue is None or request_id in self._outstanding or request_id in self._ended:
            return None
        self.fade(now=now)  # or the new booking would fade together with the old ones
        outstanding = self._outstanding[request_id] = Outstanding(
            reservation,
            pending_tokens=reservation.pending_tokens,
            pending_s=self._pending_s(reservation),
            prompt_tokens_left=max(reservation.request.num_prompt_tokens, 1),
            answer_tokens=answer_tokens,
            reserved_at=now,
            begins_at=now + late_s,
            expires_at=now + self._ttl_s,
        )
        queue.add(outstanding)
        self._table.book(reservation.replica_id, outstanding.load, tokens=self.work(reservation))
        return outstanding

    def arrived(self, request_id: RequestId, *, now: float) -> float | None:
        """A sign of life: the request is at its replica.

        Returns the seconds since it was booked for the first sign, None for later ones.
        """
        outstanding = self._outstanding.get(request_id)
        if outstanding is None:
            return None
        delay_s = None if outstanding.has_arrived else now - outstanding.reserved_at
        outstanding.has_arrived = True
        outstanding.expires_at = now + self._ttl_s
        self._outstanding.move_to_end(request_id)
        return delay_s

    def prefilled(self, request_id: RequestId, *, prompt_tokens: int, now: float) -> Outstanding | None:
        """The engine computed a prompt of `prompt_tokens`: one of a list, or the only one, whatever its length here.

        Returns the request when that completed its prefill.
        """
        self.arrived(request_id, now=now)
        outstanding = self._outstanding.get(request_id)
        if outstanding is None or not outstanding.is_waiting:
            return None
        prompt_tokens_left = outstanding.prompt_tokens_left
        done_tokens = prompt_tokens_left
        if outstanding.reservation.request.num_prompts > 1:
            done_tokens = min(max(prompt_tokens, 1), prompt_tokens_left)
        self._compute(
            outstanding,
            prompt_tokens_left=prompt_tokens_left - done_tokens,
            computed_tokens=outstanding.pending_tokens * done_tokens // prompt_tokens_left,
            computed_s=outstanding.pending_s * done_tokens / prompt_tokens_left,
            now=now,
        )
        return None if outstanding.is_waiting else outstanding

    def withdraw(self, request_id: RequestId) -> Outstanding | None:
        """Release a request, which may be booked again: it is at another replica. Returns it, None if unknown."""
        outstanding = self._outstanding.pop(request_id, None)
        if outstanding is not None:
            replica_id = outstanding.reservation.replica_id
            self._queues[replica_id].remove(outstanding)
            self._table.change(replica_id, _NOTHING.since(outstanding.load))
        return outstanding

    def finished(self, request_id: RequestId, *, now: float) -> Outstanding | None:
        """Release a request that ended, for good. Returns it, None if unknown."""
        self._ended[request_id] = now
        self._ended.move_to_end(request_id)
        self._forget(now=now)
        return self.withdraw(request_id)

    def expired(self, *, now: float) -> list[RequestId]:
        """Requests without a sign of life for longer than their TTL; they stay booked until `finished`."""
        return [
            request_id for request_id, _ in takewhile(lambda item: item[1].expires_at <= now, self._outstanding.items())
        ]

    def lost(self, replica_id: ReplicaId, listed: Collection[RequestId], *, now: float) -> list[RequestId]:
        """Requests that are over by a replica's own list: it had them, or should have them by now, and lists them not.

        The listed ones have shown a sign of life. One that was just sent may still be on its way.
        """
        queue = self._queues.get(replica_id)
        lost = []
        for request_id, outstanding in () if queue is None else queue.requests.items():
            if request_id in listed:
                self.arrived(request_id, now=now)
            elif outstanding.has_arrived or outstanding.reserved_at + self._arrival_ttl_s <= now:
                lost.append(request_id)
        return lost

    def missed(
        self, replica_id: ReplicaId, request_to_prefilled_tokens: Mapping[RequestId, int]
    ) -> list[tuple[RequestId, int]]:
        """Requests of which, by the replica, more prompt tokens had a first output than by its receipts.

        Each comes with the prompt tokens that no receipt told of.
        """
        queue = self._queues.get(replica_id)
        missed = [
            (request_id, request_to_prefilled_tokens[request_id] - outstanding.prefilled_tokens)
            for request_id, outstanding in (() if queue is None else queue.waiting.items())
            if request_id in request_to_prefilled_tokens
        ]
        return [(request_id, missed_tokens) for request_id, missed_tokens in missed if missed_tokens > 0]

    # A router that joins

    def export(self, replica_id: ReplicaId) -> tuple[BookedRequest, ...]:
        """The outstanding requests of a replica, for a router that joins."""
        return tuple(
            BookedRequest(
                outstanding.reservation,
                outstanding.pending_tokens,
                outstanding.prompt_tokens_left,
                outstanding.has_arrived,
                answer_tokens=outstanding.answer_tokens,
            )
            for outstanding in self.outstanding_at(replica_id)
        )

    def adopt(self, booked: BookedRequest, *, answer_tokens: float, now: float) -> None:
        """Book a request as a peer has it. A request that is known or over here stays as it is."""
        outstanding = self.reserve(booked.reservation, answer_tokens=answer_tokens, now=now)
        if outstanding is None:
            return
        if booked.has_arrived:
            self.arrived(booked.reservation.request.request_id, now=now)
        pending_tokens = outstanding.pending_tokens
        computed_tokens = pending_tokens - booked.pending_tokens
        self._release(
            outstanding,
            prompt_tokens_left=booked.prompt_tokens_left,
            computed_tokens=computed_tokens,
            computed_s=outstanding.pending_s * computed_tokens / pending_tokens if pending_tokens else 0.0,
        )

    def adopt_engine(self, replica_id: ReplicaId, engine: EngineLoad | None, *, computed_since_tokens: int) -> None:
        """Take over an engine's numbers as a peer knows them, unless the engine has told this router its own."""
        load = self._queues[replica_id].load
        if load.engine is None:
            load.engine, load.computed_since_tokens = engine, computed_since_tokens

    def export_progress(self, replica_id: ReplicaId, *, now: float) -> ProgressState:
        """A replica's progress, for a router that joins."""
        return self._queues[replica_id].progress.export(now=now)

    def adopt_progress(self, replica_id: ReplicaId, state: ProgressState, *, now: float) -> None:
        """Take over a replica's progress as a peer knows it."""
        self._queues[replica_id].progress.adopt(state, now=now)

    def _forget(self, *, now: float) -> None:
        """Forget ended requests whose reservations cannot be on their way any more."""
        while self._ended and next(iter(self._ended.values())) <= now - self._arrival_ttl_s:
            self._ended.popitem(last=False)

    def _pending_s(self, reservation: Reservation) -> float:
        num_cached_tokens = reservation.request.num_prompt_tokens - reservation.pending_tokens
        return self.model.prefill_s(reservation.pending_tokens, num_before=num_cached_tokens)

    def _steps_s(self, load: ReplicaLoad) -> float:
        """Time of a prefill beside its work, by the model: half a step that it waits for, and one of its own."""
        decoding_s = self.model.decode_step_s(load.num_running, context_tokens=load.context_tokens)
        return 1.5 * (self.model.step_s + decoding_s)

    def _compute(
        self,
        outstanding: Outstanding,
        *,
        prompt_tokens_left: int,
        computed_tokens: int,
        computed_s: float,
        now: float,
    ) -> None:
        """The replica has computed a part of its pending work up to now, and goes on with the next one."""
        queue = self._queues[outstanding.reservation.replica_id]
        queue.progress.prefilled(computed_s, steps_s=self._steps_s(queue.load), now=now)
        self._release(
            outstanding, prompt_tokens_left=prompt_tokens_left, computed_tokens=computed_tokens, computed_s=computed_s
        )
        queue.begin_next(now=now)
        queue.load.computed_since_tokens += computed_tokens

    def _release(
        self, outstanding: Outstanding, *, prompt_tokens_left: int, computed_tokens: int, computed_s: float
    ) -> None:
        replica_id, before = outstanding.reservation.replica_id, outstanding.load
        self._queues[replica_id].compute(
            outstanding, prompt_tokens_left=prompt_tokens_left, computed_tokens=computed_tokens, computed_s=computed_s
        )
        self._table.change(replica_id, outstanding.load.since(before))

    def check_integrity(self) -> None:
        """Assert that the totals are the sums of the reservations."""
        assert sum(len(queue.requests) for queue in self._queues.values()) == len(self._outstanding)
        for replica_id, queue in self._queues.items():
            queue.check_integrity()
            for request_id, outstanding in queue.requests.items():
                assert self._outstanding[request_id] is outstanding
                assert outstanding.reservation.replica_id == replica_id
            _check_sums(queue.load, queue.requests.values())
        self._table.check_integrity()
        ends = list(self._ended.values())
        assert ends == sorted(ends), "ended requests are not in order"
        expiries = [outstanding.expires_at for outstanding in self._outstanding.values()]
        assert expiries == sorted(expiries), "reservations are not in order of expiry"


def _check_sums(load: ReplicaLoad, requests: Collection[Outstanding]) -> None:
    """Assert that a load is the sum of these requests, but for rounding."""
    assert load.num_sequences == sum(outstanding.reservation.request.num_sequences for outstanding in requests), load
    changes = [outstanding.load for outstanding in requests]
    for name in LoadChange._fields:
        summed = sum(getattr(change, name) for change in changes)
        assert math.isclose(getattr(load, name), summed, rel_tol=1e-6, abs_tol=1e-6), (name, summed, load)

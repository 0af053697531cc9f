"""What is recorded in the course of a run."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from loadtests.replay.lives import ReplicaLife
from loadtests.replay.reservation_check import ReservationSample
from loadtests.replay.results import CacheSample, Replay, RequestRecord
from router import CacheRecord, Funnel, ReplicaId, RequestId, RoutingDecision, ShadowTotals
from serve_app.messages.receipts import Prefilled


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a request."""

    number: int
    """The request's position in the trace."""
    arrival_s: float
    """The time at which the request was sent for the first time."""
    router_name: str


class Findings:
    """The records of a simulation; `as_run` makes its result of them."""

    def __init__(self) -> None:
        self.sent: dict[RequestId, Attempt] = {}
        self.samples: list[ReservationSample] = []
        self.cache_samples: list[CacheSample] = []
        self.deciding_s = 0.0
        self.finished_s: list[float] = []
        self._num_asked = 0
        self._num_agreed = 0
        self._shadow_to_totals: dict[str, ShadowTotals] = {}
        self._funnels: defaultdict[tuple[ReplicaId, str], Funnel] = defaultdict(Funnel)
        self._number_to_record: dict[int, RequestRecord] = {}

    def asked(self, answers: Sequence[ReplicaId], chosen: ReplicaId) -> None:
        """What other routers would have chosen, and what was."""
        self._num_asked += len(answers)
        self._num_agreed += answers.count(chosen)

    def shadowed(self, decision: RoutingDecision) -> None:
        """What the shadows of the router that decided say to it."""
        for answer in decision.shadows:
            self._shadow_to_totals.setdefault(answer.policy, ShadowTotals()).add(answer, decision)

    def recorded(self, record: CacheRecord) -> None:
        """What a router says became of a prompt that it placed."""
        self._funnels[record.replica_id, record.tenant].add(record)

    def prefilled(self, replica_id: ReplicaId, receipt: Prefilled, *, now: float) -> None:
        """A first token. Where an earlier attempt had one too, before it broke off, this one counts."""
        sent = self.sent[receipt.request_id]
        self._number_to_record.pop(sent.number, None)
        self._number_to_record[sent.number] = RequestRecord(
            request_id=receipt.request_id,
            arrival_s=sent.arrival_s,
            replica_id=replica_id,
            ttft_s=now - sent.arrival_s,
            prompt_tokens=receipt.prompt_tokens,
            cached_tokens=receipt.cached_tokens,
        )

    def finished(self, request_id: RequestId, *, now: float) -> None:
        """The last token of a request."""
        number = self.sent[request_id].number
        record = self._number_to_record[number]
        self._number_to_record[number] = replace(record, answer_s=now - record.arrival_s)
        self.finished_s.append(now)

    def as_run(
        self,
        *,
        last_start_s: float,
        replica_to_computed_tokens: Mapping[ReplicaId, int],
        router_to_reservations_left: Mapping[str, int],
        lives: tuple[ReplicaLife, ...],
    ) -> Replay:
        """All of it, and the counts that were kept elsewhere."""
        return Replay(
            records=tuple(self._number_to_record.values()),
            samples=tuple(self.samples),
            cache_samples=tuple(self.cache_samples),
            finished_s=tuple(self.finished_s),
            num_asked=self._num_asked,
            num_agreed=self._num_agreed,
            shadow_to_totals=self._shadow_to_totals,
            funnels=dict(self._funnels),
            lives=lives,
            num_sent=len(self.sent),
            last_start_s=last_start_s,
            replica_to_computed_tokens=dict(replica_to_computed_tokens),
            router_to_reservations_left=dict(router_to_reservations_left),
            deciding_s=self.deciding_s,
        )

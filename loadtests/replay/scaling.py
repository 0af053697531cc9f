"""Replicas that come and go as an autoscaler decides: what each says of its work, and what becomes of a decision."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from loadtests.replay.agenda import Agenda
from loadtests.replay.fleet import ChangeKind, Fleet, MembershipChange
from loadtests.replay.processes import ReceiptBatch, ReplicaProcess
from loadtests.replay.serve_autoscaler import MetricSeries, ServeAutoscaler
from router import ReplicaId, RequestId
from serve_app.messages.receipts import Arrived, EngineState, Finished, Prefilled
from serve_app.replica.running_requests import RunningRequests


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """The autoscaler's configuration, and how long its decisions take."""

    config: Mapping[str, Any]
    """Serve's `autoscaling_config`, as in a settings file."""
    start_s: float = 60.0
    """Seconds from the decision until a replica serves; ours with a small model take about that."""
    decide_s: float = 5.0
    """Seconds between decisions. Serve decides more often, but mostly on the same reports, which come every 10 s."""


class Meter:
    """A replica's side: production's own account of its work, recorded and reported from time to time."""

    def __init__(self, process: ReplicaProcess, agenda: Agenda, *, kv_capacity_tokens: int, look_back_s: float) -> None:
        self.ledger = RunningRequests(lambda _: None, clock=lambda: agenda.now_s)
        self.told: MetricSeries = {}
        self._process = process
        self._agenda = agenda
        self._kv_capacity_tokens = kv_capacity_tokens
        self._look_back_s = look_back_s
        self._name_to_series: dict[str, list[Any]] = {}

    def record(self) -> None:
        """Record the replica's work now."""
        engine = self._process.engine
        kv_use = engine.used_tokens / self._kv_capacity_tokens
        self.ledger.engine_stepped(EngineState(engine.num_waiting, self.ledger.num_outstanding, kv_use))
        metrics = self.ledger.work.as_metrics()
        points = ServeAutoscaler.points(self.ledger.num_outstanding, metrics, now=self._agenda.now_s)
        for name, point in points.items():
            self._name_to_series.setdefault(name, []).append(point)

    def tell(self) -> None:
        """Report what is young enough to the controller."""
        start_s = self._agenda.now_s - self._look_back_s
        for series in self._name_to_series.values():
            del series[: bisect_left(series, start_s, key=attrgetter("timestamp"))]
        self.told = {name: tuple(series) for name, series in self._name_to_series.items() if series}


class Scaler:
    """The controller's side, for all replicas of a run.

    Args:
        autoscaling: how.
        agenda: where decisions and starts are planned.
        fleet: the replicas.
        change: lets one join or leave.
        kv_capacity_tokens: of each.

    """

    def __init__(
        self,
        autoscaling: Autoscaling,
        *,
        agenda: Agenda,
        fleet: Fleet,
        change: Callable[[MembershipChange], None],
        kv_capacity_tokens: int,
    ) -> None:
        self._autoscaler = ServeAutoscaler(autoscaling.config)
        self._start_s = autoscaling.start_s
        self._agenda = agenda
        self._fleet = fleet
        self._change = change
        self._kv_capacity_tokens = kv_capacity_tokens
        self._replica_to_meter: dict[ReplicaId, Meter] = {}
        self._request_to_uncached_tokens: dict[RequestId, int] = {}
        self._starting: list[object] = []
        self._meet_newcomers()
        agenda.every(autoscaling.decide_s, self._decide, first_s=autoscaling.decide_s)

    def routed(self, request_id: RequestId, *, uncached_tokens: int) -> None:
        """A router sends a request off, with its estimate of the tokens to compute."""
        self._request_to_uncached_tokens[request_id] = uncached_tokens

    def on_batch(self, batch: ReceiptBatch) -> None:
        """What a replica writes into its account."""
        ledger = self._replica_to_meter[ReplicaId(batch.sender)].ledger
        for receipt in batch.items:
            match receipt:
                case Arrived(request_id):
                    ledger.arrived(request_id, uncached_tokens=self._request_to_uncached_tokens.pop(request_id))
                case Prefilled(request_id, prompt_tokens, cached_tokens):
                    ledger.prefilled(request_id, prompt_tokens=prompt_tokens, cached_tokens=cached_tokens)
                case Finished(request_id):
                    ledger.finished(request_id)

    @property
    def _target(self) -> int:
        return len(self._fleet.members) + len(self._starting)

    def _decide(self) -> None:
        members = self._fleet.members
        reports = {each.replica_id: told for each in members if (told := self._replica_to_meter[each.replica_id].told)}
        wanted = self._autoscaler.decide(reports, num_running=len(members), target=self._target, now=self._agenda.now_s)
        while self._target < wanted:
            self._order()
        while self._target > wanted:
            self._give_up()

    def _order(self) -> None:
        order = object()
        self._starting.append(order)
        self._agenda.after(self._start_s, partial(self._join, order))

    def _join(self, order: object) -> None:
        if order not in self._starting:
            return
        self._starting.remove(order)
        taken = {member.rank for member in self._fleet.members}
        rank = next(rank for rank in range(len(taken) + 1) if rank not in taken)
        self._change(MembershipChange(self._agenda.now_s, ChangeKind.JOIN, rank))
        self._meet_newcomers()

    def _give_up(self) -> None:
        """One that starts, or the newest: Serve's order where all nodes are alike."""
        if self._starting:
            self._starting.pop()
        else:
            self._change(MembershipChange(self._agenda.now_s, ChangeKind.LEAVE, self._fleet.members[-1].rank))

    def _meet_newcomers(self) -> None:
        for process in self._fleet.processes():
            if process.replica_id not in self._replica_to_meter:
                meter = Meter(
                    process,
                    self._agenda,
                    kv_capacity_tokens=self._kv_capacity_tokens,
                    look_back_s=self._autoscaler.config.look_back_period_s,
                )
                self._replica_to_meter[process.replica_id] = meter
                self._repeat(self._autoscaler.record_s, meter.record, process.replica_id)
                self._repeat(self._autoscaler.push_s, meter.tell, process.replica_id)

    def _repeat(self, period_s: float, action: Callable[[], None], replica_id: ReplicaId) -> None:
        """Repeat an action from now on, as long as the replica is a member."""
        if any(member.replica_id == replica_id for member in self._fleet.members):
            action()
            self._agenda.after(period_s, partial(self._repeat, period_s, action, replica_id))

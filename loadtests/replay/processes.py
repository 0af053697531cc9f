"""The two kinds of processes, each with its side of the messages: what `serve_app` does around engine and router."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count, islice

from loadtests.replay.agenda import Agenda
from loadtests.replay.engine import Engine
from loadtests.replay.kv_events import KvEventBatch, KvEventReader
from loadtests.replay.receipts import Arrived, Batch, Finished, Prefilled, Receipt
from loadtests.replay.trace import TraceRequest
from router import CacheRecord, Replica, ReplicaId, RequestId, Router
from router.policies import Policy
from serve_app.settings.schema import EngineModelSettings, RouterSettings


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Steps alike that need no looking at, the last one excepted."""

    ends_s: tuple[float, ...]
    """Of each step; summed one by one, so that no rounding tells whether a stretch was cut."""

    @property
    def num_steps(self) -> int:
        return len(self.ends_s)

    @property
    def end_s(self) -> float:
        return self.ends_s[-1]

    def until_after(self, now: float) -> "_Stretch":
        """As far as the step that is under way now."""
        return _Stretch(self.ends_s[: self.num_over(now) + 1])

    def num_over(self, now: float) -> int:
        """How many of its steps are over, the last one excepted."""
        return bisect_left(self.ends_s, now, hi=self.num_steps - 1)


class ReplicaProcess:
    """Runs an engine step after step, and tells how it goes.

    Args:
        replica_id: its sender's name.
        engine: its own.
        agenda: where its steps are planned.
        send: takes each batch; it is as good as the truth, because it is called when things happen.
        is_telling: whether KV events are sent too.

    """

    def __init__(
        self,
        replica_id: ReplicaId,
        engine: Engine,
        agenda: Agenda,
        send: Callable[[Batch], None],
        *,
        is_telling: bool = False,
    ) -> None:
        self.replica_id = replica_id
        self.engine = engine
        self._agenda = agenda
        self._send = send
        self._is_telling = is_telling
        self._numbers = count(1)
        self._kv_numbers = count(1)
        self._outstanding: dict[RequestId, int] = {}  # prompt tokens that had a first output; in order of arrival
        self._stretch: _Stretch | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is here."""
        return not self._outstanding

    def submit(self, request_id: RequestId, request: TraceRequest) -> None:
        """A routed request arrives."""
        self._outstanding[request_id] = 0
        self.engine.submit(request_id, request)
        self._report(Arrived(request_id))
        if self._stretch is None:
            self._step()
        elif self._stretch.num_steps > 1:
            self._plan(self._stretch.until_after(self._agenda.now_s))

    def crash(self) -> tuple[RequestId, ...]:
        """Stop at once, for good; returns the requests that break off, in order of arrival here."""
        self._stretch = None
        return tuple(self._outstanding)

    def beat(self) -> None:
        """Send the heartbeat."""
        num_over = 0 if self._stretch is None else self._stretch.num_over(self._agenda.now_s)
        load = self.engine.load(num_further_steps=num_over)
        self._send(Batch(self.replica_id, next(self._numbers), outstanding=dict(self._outstanding), engine=load))

    def _step(self) -> None:
        if self.engine.start_step() is None:
            self._stretch = None
        else:
            durations_s = self.engine.durations_s(1 + self.engine.num_alike_steps)
            self._plan(_Stretch(tuple(islice(accumulate(durations_s, initial=self._agenda.now_s), 1, None))))

    def _plan(self, stretch: "_Stretch") -> None:
        self._stretch = stretch
        self._agenda.at(stretch.end_s, partial(self._finish, stretch))

    def _finish(self, stretch: "_Stretch") -> None:
        if self._stretch is not stretch:
            return  # it was cut short, or the replica crashed
        self.engine.skip_steps(stretch.num_steps - 1)
        outputs = self.engine.finish_step()
        kv_events = self.engine.take_kv_events()
        if kv_events and self._is_telling:  # before the outputs, as vLLM does
            told = KvEventBatch(next(self._kv_numbers), kv_events)
            self._send(Batch(self.replica_id, next(self._numbers), kv_events=told))
        if outputs:
            for each in outputs:
                if isinstance(each, Finished):
                    del self._outstanding[each.request_id]
                else:
                    self._outstanding[each.request_id] += each.prompt_tokens
            self._report(*outputs)
        self._step()

    def _report(self, *receipts: Receipt) -> None:
        self._send(Batch(self.replica_id, next(self._numbers), receipts=receipts))


class RouterProcess:
    """A router, and what it does with the messages of the others.

    Args:
        name: its sender's name.
        router: its own.
        on_record: takes the record of each prompt that it decided.

    """

    def __init__(self, name: str, router: Router, on_record: Callable[[CacheRecord], None]) -> None:
        self.name = name
        self.router = router
        self._on_record = on_record
        self._replica_to_number: dict[ReplicaId, int] = {}
        self._replica_to_reader: dict[ReplicaId, KvEventReader] = {}

    def on_batch(self, batch: Batch, *, now: float) -> None:
        """From a replica. Receipts hold whenever they come; an overtaken list of requests does not."""
        for receipt in batch.receipts:
            match receipt:
                case Arrived():
                    self.router.on_arrived(receipt.request_id, batch.replica_id, now=now)
                case Prefilled():
                    self._on_prefilled(receipt, now=now)
                case Finished():
                    self.router.on_finished(receipt.request_id, now=now, answer_tokens=receipt.answer_tokens)
        if batch.kv_events is not None:
            reader = self._replica_to_reader.setdefault(batch.replica_id, KvEventReader(batch.replica_id, self.router))
            reader.read(batch.kv_events)
        self.router.on_heard(batch.replica_id, is_serving=True, now=now)
        newest = self._replica_to_number.get(batch.replica_id, 0)
        if batch.outstanding is not None and batch.number >= newest:
            self.router.on_outstanding(batch.replica_id, batch.outstanding, now=now)
        if batch.engine is not None and batch.number >= newest:
            self.router.on_engine_load(batch.replica_id, batch.engine)
        self._replica_to_number[batch.replica_id] = max(batch.number, newest)

    def _on_prefilled(self, receipt: Prefilled, *, now: float) -> None:
        record = self.router.on_prefilled(
            receipt.request_id,
            prompt_tokens=receipt.prompt_tokens,
            cached_tokens=receipt.cached_tokens,
            external_cached_tokens=receipt.external_cached_tokens,
            now=now,
        )
        if record is not None:
            self._on_record(record)


def make_router(
    replicas: Iterable[Replica],
    *,
    policy: Policy,
    block_size: int,
    routers: RouterSettings,
    engine_model: EngineModelSettings,
) -> Router:
    """A router as production builds it; it knows nothing yet but the replicas."""
    router = Router(policy=policy, block_size=block_size, options=routers.router_options(engine_model))
    router.set_replicas(replicas)
    return router

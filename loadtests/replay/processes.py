"""The two kinds of processes, each with its side of the messages: what `serve_app` does around engine and router."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import accumulate, count, islice, repeat, takewhile
from operator import add

from loadtests.replay.agenda import Agenda
from loadtests.replay.engine import Engine
from loadtests.replay.receipts import Arrived, Batch, Finished, Prefilled, Receipt
from loadtests.replay.trace import TraceRequest
from router import CacheRecord, Replica, ReplicaId, RequestId, Router
from router.policies import Policy
from serve_app.settings import RouterSettings


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Steps alike that need no looking at, the last one excepted."""

    start_s: float
    step_s: float
    num_steps: int

    @property
    def end_s(self) -> float:
        """Summed step by step, so that no rounding tells whether a stretch was cut."""
        return reduce(add, repeat(self.step_s, self.num_steps), self.start_s)

    def until_after(self, now: float) -> "_Stretch":
        """As far as the step that is under way now."""
        ends_s = accumulate(repeat(self.step_s, self.num_steps), initial=self.start_s)
        num_over = sum(1 for _ in takewhile(lambda end_s: end_s < now, islice(ends_s, 1, self.num_steps)))
        return replace(self, num_steps=num_over + 1)


class ReplicaProcess:
    """Runs an engine step after step, and tells how it goes.

    Args:
        replica_id: its sender's name.
        engine: its own.
        agenda: where its steps are planned.
        send: takes each batch; it is as good as the truth, because it is called when things happen.

    """

    def __init__(self, replica_id: ReplicaId, engine: Engine, agenda: Agenda, send: Callable[[Batch], None]) -> None:
        self.replica_id = replica_id
        self.engine = engine
        self._agenda = agenda
        self._send = send
        self._numbers = count(1)
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
        self._send(Batch(self.replica_id, next(self._numbers), outstanding=dict(self._outstanding)))

    def _step(self) -> None:
        duration_s = self.engine.start_step()
        if duration_s is None:
            self._stretch = None
        else:
            self._plan(_Stretch(self._agenda.now_s, duration_s, 1 + self.engine.num_alike_steps))

    def _plan(self, stretch: "_Stretch") -> None:
        self._stretch = stretch
        self._agenda.at(stretch.end_s, partial(self._finish, stretch))

    def _finish(self, stretch: "_Stretch") -> None:
        if self._stretch is not stretch:
            return  # it was cut short, or the replica crashed
        self.engine.skip_steps(stretch.num_steps - 1)
        outputs = self.engine.finish_step()
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

    def on_batch(self, batch: Batch, *, now: float) -> None:
        """From a replica. Receipts hold whenever they come; an overtaken list of requests does not."""
        for receipt in batch.receipts:
            match receipt:
                case Arrived():
                    self.router.on_arrived(receipt.request_id, batch.replica_id, now=now)
                case Prefilled():
                    self._on_prefilled(receipt, now=now)
                case Finished():
                    self.router.on_finished(receipt.request_id, now=now)
        self.router.on_heard(batch.replica_id, is_serving=True, now=now)
        newest = self._replica_to_number.get(batch.replica_id, 0)
        if batch.outstanding is not None and batch.number >= newest:
            self.router.on_outstanding(batch.replica_id, batch.outstanding, now=now)
        self._replica_to_number[batch.replica_id] = max(batch.number, newest)

    def _on_prefilled(self, receipt: Prefilled, *, now: float) -> None:
        record = self.router.on_prefilled(
            receipt.request_id, prompt_tokens=receipt.prompt_tokens, cached_tokens=receipt.cached_tokens, now=now
        )
        if record is not None:
            self._on_record(record)


def make_router(replicas: Iterable[Replica], *, policy: Policy, block_size: int, routers: RouterSettings) -> Router:
    """A router as production builds it; it knows nothing yet but the replicas."""
    router = Router(policy=policy, block_size=block_size, options=routers.router_options())
    router.set_replicas(replicas)
    return router

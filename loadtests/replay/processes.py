"""The two kinds of processes: a replica writes production's messages, and a router reads them in production's inbox."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count, islice

from loadtests.replay.agenda import Agenda
from loadtests.replay.engine import Engine
from loadtests.replay.trace import TraceRequest
from router import CacheRecord, Replica, ReplicaId, ReplicaState, RequestId, Reservation, Router
from router.policies import Policy
from serve_app.ingress.inbox import Inbox
from serve_app.messages.batches import Batch, encode
from serve_app.messages.kv_updates import KvUpdate
from serve_app.messages.receipts import Arrived, EngineState, Finished, Prefilled, Receipt, Status
from serve_app.settings.schema import EngineModelSettings, RouterSettings


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Steps alike that need no looking at, the last one excepted."""

    ends_s: tuple[float, ...]
    """The end of each step; summed one by one, so that no rounding tells whether a stretch was cut."""

    @property
    def num_steps(self) -> int:
        return len(self.ends_s)

    @property
    def end_s(self) -> float:
        return self.ends_s[-1]

    def until_after(self, now: float) -> "_Stretch":
        """The stretch as far as the step that is under way now."""
        return _Stretch(self.ends_s[: self.num_over(now) + 1])

    def num_over(self, now: float) -> int:
        """How many of its steps are over, the last one excepted."""
        return bisect_left(self.ends_s, now, hi=self.num_steps - 1)


ReceiptBatch = Batch[Receipt]


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
        send: Callable[[ReceiptBatch], None],
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
        """Stop at once, for good; returns the requests that break off, in order of their arrival."""
        self._stretch = None
        return tuple(self._outstanding)

    def beat(self) -> None:
        """Send the heartbeat."""
        self._report(
            Status(
                outstanding=dict(self._outstanding),
                is_serving=True,
                prompt_tokens=0,
                cached_tokens=0,
                uncounted_tokens={},
                looked_up_tokens=0,
                hit_tokens=0,
                engine=self._engine_state(),
            )
        )

    def _engine_state(self) -> EngineState:
        num_over = 0 if self._stretch is None else self._stretch.num_over(self._agenda.now_s)
        load = self.engine.load(num_further_steps=num_over)
        kv_use = load.kv_used_tokens / self.engine.options.kv_capacity_tokens
        return EngineState(load.num_waiting, load.num_running, min(1.0, kv_use), load.num_preempted)

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
        kv_changes = self.engine.take_kv_events()
        if kv_changes and self._is_telling:  # before the outputs, as vLLM does
            update = KvUpdate(next(self._kv_numbers), kv_changes, num_steps=1)
            self._send(Batch(self.replica_id, next(self._numbers), (), kv_updates=(update,)))
        if outputs:
            for output in outputs:
                self._note(output)
            self._report(*outputs)
        self._step()

    def _note(self, output: Prefilled | Finished) -> None:
        if isinstance(output, Finished):
            del self._outstanding[output.request_id]
        else:
            self._outstanding[output.request_id] += output.prompt_tokens

    def _report(self, *receipts: Receipt) -> None:
        self._send(Batch(self.replica_id, next(self._numbers), receipts))


class RouterProcess:
    """A router behind production's inbox.

    The inbox asks a replica for a snapshot of its KV cache when one of its updates is missing. Simulated replicas send
    none, so from a gap on the router goes by receipts.

    Args:
        name: its sender's name.
        router: its own.
        on_record: takes the record of each prompt that it decided.

    """

    def __init__(self, name: str, router: Router, on_record: Callable[[CacheRecord], None]) -> None:
        self.name = name
        self.router = router
        self._inbox = Inbox(lambda record, _ttft_s: on_record(record), lambda *_sample: None)
        self._numbers = count(1)

    def set_replicas(self, replicas: Sequence[Replica]) -> None:
        """The replicas that there are now."""
        self._inbox.keep_only([replica.replica_id for replica in replicas])
        self.router.set_replicas(replicas)

    def encode(self, message: Reservation | ReplicaState) -> bytes:
        """A batch with one message for another router."""
        return encode(self.name, next(self._numbers), [message])

    def on_receipts(self, payload: bytes, *, now: float) -> None:
        """A replica's batch."""
        self._inbox.on_receipts(payload, self.router, now=now)

    def on_reservations(self, payload: bytes, *, now: float) -> None:
        """Another router's decisions."""
        self._inbox.on_reservations(payload, self.router, now=now)

    def on_states(self, payload: bytes, *, now: float) -> None:
        """The state of a router that stayed, after a restart."""
        self._inbox.on_states(payload, self.router, now=now)


def make_router(
    replicas: Iterable[Replica],
    *,
    policy: Policy,
    block_size: int,
    routers: RouterSettings,
    engine_model: EngineModelSettings,
) -> Router:
    """A router as production builds it; it knows nothing yet but the replicas."""
    router = routers.make_router(policy=policy, block_size=block_size, engine_model=engine_model)
    router.set_replicas(replicas)
    return router

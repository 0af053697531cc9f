"""The two kinds of processes, each with its side of the messages: what `serve_app` does around engine and router."""

from collections.abc import Callable, Iterable
from itertools import count
from random import Random

from loadtests.replay.agenda import Agenda
from loadtests.replay.engine import Engine
from loadtests.replay.receipts import Arrived, Batch, Finished, Prefilled, Receipt
from loadtests.replay.trace import TraceRequest
from router import Replica, ReplicaId, RequestId, Router
from router.policies import make_policy
from serve_app.settings import RouterSettings, RoutingSettings


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
        self._outstanding: dict[RequestId, None] = {}  # in order of arrival
        self._is_stepping = False
        self._has_crashed = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is here."""
        return not self._outstanding

    def submit(self, request_id: RequestId, request: TraceRequest) -> None:
        """A routed request arrives."""
        self._outstanding[request_id] = None
        self.engine.submit(request_id, request)
        self._report(Arrived(request_id))
        if not self._is_stepping:
            self._step()

    def crash(self) -> tuple[RequestId, ...]:
        """Stop at once, for good; returns the requests that break off, in order of arrival here."""
        self._has_crashed = True
        return tuple(self._outstanding)

    def beat(self) -> None:
        """Send the heartbeat."""
        self._send(Batch(self.replica_id, next(self._numbers), outstanding=frozenset(self._outstanding)))

    def _step(self) -> None:
        duration_s = self.engine.start_step()
        self._is_stepping = duration_s is not None
        if duration_s is not None:
            self._agenda.after(duration_s, self._finish_step)

    def _finish_step(self) -> None:
        if self._has_crashed:
            return
        outputs = self.engine.finish_step()
        if outputs:
            for each in outputs:
                if isinstance(each, Finished):
                    del self._outstanding[each.request_id]
            self._report(*outputs)
        self._step()

    def _report(self, *receipts: Receipt) -> None:
        self._send(Batch(self.replica_id, next(self._numbers), receipts=receipts))


class RouterProcess:
    """A router, and what it does with the messages of the others."""

    def __init__(self, name: str, router: Router) -> None:
        self.name = name
        self.router = router
        self._replica_to_number: dict[ReplicaId, int] = {}

    def on_batch(self, batch: Batch, *, now: float) -> None:
        """From a replica. Receipts hold whenever they come; an overtaken list of requests does not."""
        for receipt in batch.receipts:
            match receipt:
                case Arrived():
                    self.router.on_arrived(receipt.request_id, batch.replica_id, now=now)
                case Prefilled():
                    self.router.on_prefilled(
                        receipt.request_id,
                        prompt_tokens=receipt.prompt_tokens,
                        cached_tokens=receipt.cached_tokens,
                        now=now,
                    )
                case Finished():
                    self.router.on_finished(receipt.request_id, now=now)
        self.router.on_heard(batch.replica_id, is_serving=True, now=now)
        newest = self._replica_to_number.get(batch.replica_id, 0)
        if batch.outstanding is not None and batch.number >= newest:
            self.router.on_outstanding(batch.replica_id, batch.outstanding, now=now)
        self._replica_to_number[batch.replica_id] = max(batch.number, newest)


def make_router(
    replicas: Iterable[Replica], *, block_size: int, routing: RoutingSettings, routers: RouterSettings, rng: Random
) -> Router:
    """A router as production builds it; it knows nothing yet but the replicas."""
    policy = make_policy(routing.policy, routing.policy_options(), rng)
    router = Router(policy=policy, block_size=block_size, options=routers.router_options())
    router.set_replicas(replicas)
    return router

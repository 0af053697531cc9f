"""A router's receiving side: messages of replicas and of other routers, applied to its core."""

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace

from router import CacheRecord, EngineLoad, ReplicaId, ReplicaState, RequestId, Reservation, Router, TokenHash
from serve_app.ingress.kv_sources import KvSources
from serve_app.messages.batches import Batch, Item, Reader, RefusedError
from serve_app.messages.receipts import (
    Arrived,
    BatchAnswer,
    EngineState,
    Finished,
    Prefilled,
    Receipt,
    Status,
    Warmed,
)

logger = logging.getLogger("ray.serve")

MAX_REASONS = 16
"""Number of different reasons for refusals that are counted and logged apart at most."""
OTHER_REASONS = "other"


class Inbox:
    """Keeps only what repairs the rest: each replica's last status and batch number.

    Args:
        on_record: takes the record of each prompt that the router decided, and its time to first token in seconds.
        on_token_hash: takes a sampled request's, from the replica that got it.

    """

    def __init__(
        self,
        on_record: Callable[[CacheRecord, float | None], None],
        on_token_hash: Callable[[ReplicaId, RequestId, TokenHash], None],
    ) -> None:
        self._on_record = on_record
        self._on_token_hash = on_token_hash
        self._receipts: Reader[Receipt] = Reader(Receipt)
        self._reservations: Reader[Reservation] = Reader(Reservation)
        self._states: Reader[ReplicaState] = Reader(ReplicaState)
        self.kv = KvSources()
        self._replica_to_number: dict[ReplicaId, int] = {}
        self.replica_to_status: dict[ReplicaId, Status] = {}
        self.reason_to_refused: Counter[str] = Counter()

    def keep_only(self, replica_ids: Collection[ReplicaId]) -> None:
        """Forget replicas that are gone."""
        for replica_to in (self._replica_to_number, self.replica_to_status):
            for replica_id in replica_to.keys() - set(replica_ids):
                del replica_to[replica_id]
        self.kv.keep_only(replica_ids)

    def on_receipts(self, payload: bytes, router: Router, *, now: float) -> BatchAnswer:
        """A replica's batch; returns whether the router knows the replica, and wants a snapshot of its KV cache."""
        batch = self._read(self._receipts, payload)
        if batch is None:
            return BatchAnswer.UNDECIDED
        replica_id = ReplicaId(batch.sender)
        is_overtaken = batch.number < self._replica_to_number.get(replica_id, 0)
        if not is_overtaken:
            self._replica_to_number[replica_id] = batch.number
        # First: what a request that is over has left is what the engine says.
        wants = [self.kv.on_update(replica_id, update, router) for update in batch.kv_updates]
        for receipt in batch.items:
            match receipt:
                case Arrived():
                    router.on_arrived(receipt.request_id, replica_id, now=now, waited_s=receipt.waited_s)
                case Prefilled():
                    self._on_prefilled(replica_id, receipt, router, now=now)
                case Warmed():
                    router.on_warmed(replica_id, receipt.block_hashes)
                case Finished():
                    router.on_finished(receipt.request_id, now=now, answer_tokens=receipt.answer_tokens)
                case Status() if not is_overtaken:  # its list of requests would be older than what we know
                    self.replica_to_status[replica_id] = receipt
                    router.on_outstanding(replica_id, receipt.outstanding, now=now)
                    _on_engine_state(replica_id, receipt.engine, router)
        status = self.replica_to_status.get(replica_id)
        router.on_heard(replica_id, is_serving=status is None or status.is_serving, now=now)
        if wants[-1:] == [True]:
            return BatchAnswer.WANTS_SNAPSHOT
        return BatchAnswer.KNOWN if replica_id in router.cluster.load else BatchAnswer.UNKNOWN

    def on_reservations(self, payload: bytes, router: Router, *, now: float) -> None:
        """Another router's batch: what is booked already stays as it is."""
        batch = self._read(self._reservations, payload)
        for reservation in batch.items if batch is not None else ():
            router.on_reserved(reservation, now=now)

    def on_states(self, payload: bytes, router: Router, *, now: float) -> None:
        """Take over what another router knows and has booked."""
        batch = self._read(self._states, payload)
        for state in batch.items if batch is not None else ():
            router.adopt(state, now=now)

    def _on_prefilled(self, replica_id: ReplicaId, receipt: Prefilled, router: Router, *, now: float) -> None:
        if receipt.token_hash is not None:
            self._on_token_hash(replica_id, receipt.request_id, receipt.token_hash)
        record = router.on_prefilled(
            receipt.request_id,
            prompt_tokens=receipt.prompt_tokens,
            cached_tokens=receipt.cached_tokens,
            now=now,
            is_looked_up=receipt.is_looked_up,
            external_cached_tokens=receipt.external_cached_tokens,
        )
        if record is not None:
            # Routers do not see the header by which tenants are known.
            self._on_record(replace(record, tenant=receipt.tenant), receipt.ttft_s)

    def _read(self, reader: Reader[Item], payload: bytes) -> Batch[Item] | None:
        try:
            return reader.read(payload)
        except RefusedError as error:
            reason = str(error)
            if reason not in self.reason_to_refused and len(self.reason_to_refused) >= MAX_REASONS:
                reason = OTHER_REASONS
            if reason not in self.reason_to_refused:
                logger.warning("Refused a message: %s", error)
            self.reason_to_refused[reason] += 1
            return None


def _on_engine_state(replica_id: ReplicaId, state: EngineState | None, router: Router) -> None:
    replica = next((known for known in router.cluster.replicas if known.replica_id == replica_id), None)
    if state is None or replica is None:
        return
    load = EngineLoad(
        num_waiting=state.waiting,
        num_running=state.running,
        kv_used_tokens=round(state.kv_use * replica.kv_capacity_tokens),
        num_preempted=state.preempted,
    )
    router.on_engine_load(replica_id, load)

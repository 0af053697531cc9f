"""Dynamo's own SelectionService (`pip install ai-dynamo-runtime`), in process and without its message bus.

As Ray's KVAwareRouter drives it (`ray/llm/_internal/serve/routing_policies/kv_aware/kv_token_tracker.py`, Ray 2.60),
but without KV events: the service then estimates that workers have cached what they were sent (its approximate mode).
"""

import asyncio
import os
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, TypeVar

import xxhash

from router import Reason, ReplicaId, RequestId, Reservation, RouteRequest
from router.cluster import Cluster
from router.policies import Choice

MODEL = "default"
_TOKEN_MASK = 2**32 - 1
Returned = TypeVar("Returned")


class DynamoService:
    """The service decides; this maps types and tells it of reservations, first tokens and ends.

    Its estimates expire after 120 s of real time, which no simulation lasts, and it breaks ties by its own random
    numbers, so that runs differ a little. Engines are assumed to prefill in order of arrival.

    Args:
        block_size: tokens in a block.

    """

    name = "dynamo_service"

    def __init__(self, *, block_size: int) -> None:
        # It takes its configuration from the environment only.
        os.environ["DYN_ROUTER_USE_KV_EVENTS"] = "false"
        os.environ.setdefault("DYN_LOG", "error")
        self._block_size = block_size
        self._loop = asyncio.new_event_loop()
        self._service = self._start_service()
        weakref.finalize(self, _stop, self._service, self._loop)
        self._worker_ids = count()
        self._replica_to_worker: dict[ReplicaId, int] = {}
        self._replica_to_waiting: dict[ReplicaId, deque[RequestId]] = {}
        self._booked: dict[RequestId, ReplicaId] = {}

    @property
    def replica_ids(self) -> frozenset[ReplicaId]:
        """The service's workers."""
        return frozenset(self._replica_to_worker)

    def choose(self, request: RouteRequest, cluster: Cluster) -> Choice:
        """The service's selection; nothing is recorded."""
        self._follow(cluster)
        self._pass_on_progress(cluster)
        worker_to_replica = {self._replica_to_worker[each.replica_id]: each for each in cluster.eligible}
        selection = self._call(
            self._service.select,
            self._prompt(request) | {"selection_id": request.request_id, "allowed_worker_ids": list(worker_to_replica)},
        )
        is_match = selection["overlap"]["longest_matched"] > 0
        return Choice(worker_to_replica[selection["worker_id"]], Reason.PREFIX if is_match else Reason.BASELINE)

    def on_reserved(self, reservation: Reservation) -> None:
        """Record the request where it went, with the prefill that the service estimates there, as Ray's routers do."""
        worker = self._replica_to_worker.get(reservation.replica_id)
        if worker is None:
            return
        request = reservation.request
        prompt = self._prompt(request)
        overlaps = self._call(self._service.overlap_scores, prompt)["workers"]
        cached_tokens = self._block_size * next(x["device_blocks"] for x in overlaps if x["worker_id"] == worker)
        booking = {
            "selection_id": request.request_id,
            "worker_id": worker,
            "dp_rank": 0,
            "effective_prefill_tokens": max(0, request.num_prompt_tokens - cached_tokens),
        }
        self._call(self._service.create_reservation, prompt | booking)
        self._replica_to_waiting[reservation.replica_id].append(request.request_id)
        self._booked[request.request_id] = reservation.replica_id

    def _follow(self, cluster: Cluster) -> None:
        members = {replica.replica_id: replica for replica in cluster.replicas}
        for replica_id in self.replica_ids - members.keys():
            self._call(self._service.delete_worker, self._replica_to_worker.pop(replica_id))
            del self._replica_to_waiting[replica_id]
            self._booked = {request: where for request, where in self._booked.items() if where != replica_id}
        for replica_id in sorted(members.keys() - self.replica_ids):
            worker = {
                "worker_id": next(self._worker_ids),
                "model_name": MODEL,
                "endpoint": f"simulated://{replica_id}",
                "block_size": self._block_size,
                "total_kv_blocks": members[replica_id].kv_capacity_tokens // self._block_size,
            }
            self._call(self._service.upsert_worker, worker)
            self._replica_to_worker[replica_id] = int(str(worker["worker_id"]))
            self._replica_to_waiting[replica_id] = deque()

    def _pass_on_progress(self, cluster: Cluster) -> None:
        for replica_id, waiting in self._replica_to_waiting.items():
            while len(waiting) > cluster.load[replica_id].num_waiting:
                self._call(self._service.prefill_complete, waiting.popleft())
        for request_id in [each for each in self._booked if cluster.load.outstanding(each) is None]:
            self._call(self._service.free_reservation, request_id)
            del self._booked[request_id]

    def _prompt(self, request: RouteRequest) -> dict[str, Any]:
        """Equal tokens for equal blocks, and some of its own for what follows the last full block."""
        token_ids = [block_hash & _TOKEN_MASK for block_hash in request.block_hashes for _ in range(self._block_size)]
        num_tail_tokens = max(1, request.num_prompt_tokens) - len(token_ids)
        token_ids += [xxhash.xxh32_intdigest(request.request_id.encode())] * num_tail_tokens
        return {"model_name": MODEL, "token_ids": token_ids}

    def _start_service(self) -> Any:  # noqa: ANN401  untyped
        from dynamo.llm import SelectionService

        async def start() -> Any:  # noqa: ANN401  untyped
            return SelectionService(indexer_threads=1)

        return self._loop.run_until_complete(start())

    def _call(self, method: Callable[..., Awaitable[Returned]], argument: object) -> Returned:
        async def call() -> Returned:
            return await method(argument)

        return self._loop.run_until_complete(call())


def _stop(service: Any, loop: asyncio.AbstractEventLoop) -> None:  # noqa: ANN401  untyped
    service.shutdown()
    loop.close()

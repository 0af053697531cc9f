"""Batched, ordered, best-effort delivery, never in the sender's way."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger("ray.serve")

RECEIPTS_PATH = "/internal/receipts"
RESERVATIONS_PATH = "/internal/reservations"
"""Paths at a router for batches of receipts and of reservations."""

Item = TypeVar("Item")
Send = Callable[[Sequence[Item]], Awaitable[None]]


class DeliveryError(Exception):
    """Some receiver did not take a batch."""


class Delivery(Generic[Item]):
    """A queue and one task that empties it, a batch at a time.

    `post` only appends. An item goes out a moment later, or with the next one where it can wait; what piles up until
    then goes out together. So no client that is being answered waits for the delivery, and an answer that begins and
    ends within that moment is told once. A batch that fails is dropped and counted, because its content is stale by
    the time it could be repeated: reservations expire by themselves, and the next heartbeat makes up for lost receipts.

    Args:
        send: delivers one batch, in order; raises `DeliveryError` when it could not.
        interval_s: seconds from an item, or the end of the batch before, to the next batch, which hardly costs more
            for more items.
        max_undelivered: beyond this many waiting items, the oldest are dropped and counted.

    """

    def __init__(self, send: Send[Item], *, interval_s: float, max_undelivered: int) -> None:
        self._send = send
        self._interval_s = interval_s
        self._items: deque[Item] = deque()
        self._max_undelivered = max_undelivered
        self._is_due = False
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False
        self.num_dropped = 0

    def post(self, item: Item, *, can_wait: bool = False) -> None:
        """Take an item. Must be called on the event loop."""
        self._items.append(item)
        if len(self._items) > self._max_undelivered:
            self._items.popleft()
            self.num_dropped += 1
        if can_wait:
            return
        self._is_due = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._deliver())

    async def flush(self) -> None:
        """Wait until everything posted so far was delivered or dropped, but what can wait and came last."""
        while self._task is not None and not self._task.done():
            await asyncio.shield(self._task)

    async def _deliver(self) -> None:
        while self._is_due:
            await asyncio.sleep(self._interval_s)
            self._is_due = False
            batch = tuple(self._items)
            self._items.clear()
            try:
                await self._send(batch)
            except DeliveryError as error:
                self.num_dropped += len(batch)
                if not self._is_failing:  # once an outage: heartbeats would fill the log
                    logger.warning("Cannot deliver, dropping: %s", error)
                self._is_failing = True
            else:
                if self._is_failing:
                    logger.info("Delivering again; %d items dropped so far", self.num_dropped)
                self._is_failing = False

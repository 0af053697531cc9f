"""Batched delivery."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from serve_app.messages.delivery import Delivery, DeliveryError


class Receiver:
    """Takes batches when it is let."""

    def __init__(self) -> None:
        self.batches: list[Sequence[int]] = []
        self.is_open = asyncio.Event()
        self.is_asked = asyncio.Event()
        self.num_failures = 0

    async def take(self, batch: Sequence[int]) -> None:
        """The `send` of a delivery."""
        self.is_asked.set()
        await self.is_open.wait()
        if self.num_failures:
            self.num_failures -= 1
            raise DeliveryError("no one there")
        self.batches.append(batch)


async def under_way(receiver: Receiver, delivery: Delivery[int]) -> None:
    """Until a batch is with the receiver, which keeps it."""
    delivery.post(0)
    await receiver.is_asked.wait()


async def test_what_piles_up_goes_out_together_and_in_order() -> None:
    """While one batch is under way, the next one grows."""
    receiver = Receiver()
    delivery = Delivery(receiver.take, interval_s=0, max_undelivered=100)
    await under_way(receiver, delivery)
    for item in (2, 3, 4):
        delivery.post(item)
    receiver.is_open.set()
    await delivery.flush()
    assert receiver.batches == [(0,), (2, 3, 4)]


async def test_what_can_wait_goes_out_with_the_next_item() -> None:
    """In its place; alone it sends nothing."""
    receiver = Receiver()
    receiver.is_open.set()
    delivery = Delivery(receiver.take, interval_s=0, max_undelivered=100)
    delivery.post(1, can_wait=True)
    await delivery.flush()
    assert receiver.batches == []
    delivery.post(2)
    delivery.post(3, can_wait=True)
    await delivery.flush()
    assert receiver.batches == [(1, 2, 3)]


async def test_what_can_wait_does_so_while_a_batch_is_under_way() -> None:
    """Nothing is sent for it then, either."""
    receiver = Receiver()
    delivery = Delivery(receiver.take, interval_s=0, max_undelivered=100)
    await under_way(receiver, delivery)
    delivery.post(2, can_wait=True)
    receiver.is_open.set()
    await delivery.flush()
    assert receiver.batches == [(0,)]
    delivery.post(3)
    await delivery.flush()
    assert receiver.batches == [(0,), (2, 3)]


async def test_an_item_waits_a_moment_for_others() -> None:
    """So that whoever posts it goes on first, and what follows goes along, however often the loop turns."""
    receiver = Receiver()
    receiver.is_open.set()
    delivery = Delivery(receiver.take, interval_s=0.05, max_undelivered=100)
    for item in range(10):
        delivery.post(item)
        await asyncio.sleep(0)
    assert receiver.batches == []
    await delivery.flush()
    assert receiver.batches == [tuple(range(10))]


async def test_posting_never_waits_and_is_capped() -> None:
    """With a receiver that hangs, the oldest items give way and are counted."""
    receiver = Receiver()
    delivery = Delivery(receiver.take, interval_s=0, max_undelivered=3)
    await under_way(receiver, delivery)
    for item in range(1, 7):
        delivery.post(item)
    assert delivery.num_dropped == 3
    receiver.is_open.set()
    await delivery.flush()
    assert receiver.batches == [(0,), (4, 5, 6)]


async def test_a_failed_batch_is_counted_and_the_next_one_goes_out() -> None:
    """No receiver is no reason to stop."""
    receiver = Receiver()
    receiver.num_failures = 1
    receiver.is_open.set()
    delivery = Delivery(receiver.take, interval_s=0, max_undelivered=100)
    delivery.post(1)
    await delivery.flush()
    delivery.post(2)
    await delivery.flush()
    assert (delivery.num_dropped, receiver.batches) == (1, [(2,)])


async def test_an_outage_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Not with every heartbeat in between."""
    receiver = Receiver()
    receiver.num_failures = 3
    receiver.is_open.set()
    delivery = Delivery(receiver.take, interval_s=0, max_undelivered=100)
    with caplog.at_level(logging.INFO, logger="ray.serve"):
        for item in range(5):
            delivery.post(item)
            await delivery.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "Cannot deliver, dropping: no one there",
        "Delivering again; 3 items dropped so far",
    ]

"""A subscription to the KV events that one vLLM engine publishes over ZMQ, without holes."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterator

import msgspec
import zmq
import zmq.asyncio

from serve_app.replica.kv_events.wire import EngineBatch, EngineEvent

logger = logging.getLogger("ray.serve")

READ_INTERVAL_S = 0.25
"""Seconds between two looks at what has come: being woken for each message costs more than reading it."""
REPLAY_TIMEOUT_S = 5.0
"""Seconds between two batches that are sent again; the publisher looks for such requests a few times a second."""


class KvSubscription:
    """Batches of events in order, each once.

    Args:
        endpoint: where the engine publishes (vLLM's `kv_events_config.endpoint`).
        replay_endpoint: where it sends again what it still has (`replay_endpoint`).

    """

    def __init__(self, endpoint: str, replay_endpoint: str) -> None:
        self._endpoint = endpoint
        self._replay_endpoint = replay_endpoint
        self._decoder = msgspec.msgpack.Decoder(EngineBatch)
        self._subscriber: zmq.Socket[bytes] | None = None
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._expected = 0
        self.num_replayed = 0
        """The number of missed batches that were sent again."""

    async def batches(self) -> AsyncGenerator[list[EngineEvent] | None, None]:
        """All batches since the engine's start, without end, except those that `take` returns; None where some are lost
        for good.
        """
        context = zmq.Context()
        try:
            self._subscriber = context.socket(zmq.SUB)
            self._subscriber.set_hwm(0)
            self._subscriber.subscribe(b"")
            self._subscriber.connect(self._endpoint)
            while True:
                for batch in self.take():
                    yield batch
                if self._arrived:
                    start, end = self._expected, self._arrived[0][0]
                    missed = await self._replay(zmq.asyncio.Context(context), start, end)
                    self._expected = end
                    for payload in missed:
                        yield self._decode(payload)
                else:
                    await asyncio.sleep(READ_INTERVAL_S)
        finally:
            context.destroy(linger=0)
            self._subscriber = None

    def take(self) -> list[list[EngineEvent] | None]:
        """The next batches that have come, up to a hole."""
        if self._subscriber is not None:
            self._arrived.extend(_waiting(self._subscriber))
        taken = []
        while self._arrived and self._arrived[0][0] <= self._expected:
            number, payload = self._arrived.popleft()
            if number == self._expected:
                self._expected += 1
                taken.append(self._decode(payload))
        return taken

    def _decode(self, payload: bytes | None) -> list[EngineEvent] | None:
        if payload is None:
            return None
        try:
            return self._decoder.decode(payload).events
        except msgspec.MsgspecError as error:
            logger.error("The engine published what is no batch of KV events: %s", error)  # noqa: TRY400  it says all
            return None

    async def _replay(self, context: zmq.asyncio.Context, start: int, end: int) -> list[bytes | None]:
        """The batches from `start` until before `end`, as far as the engine still has them."""
        dealer = context.socket(zmq.DEALER)
        number_to_payload: dict[int, bytes] = {}
        try:
            dealer.connect(self._replay_endpoint)
            await dealer.send_multipart([b"", start.to_bytes(8, "big")])
            while True:
                _, _, number_bytes, payload = await asyncio.wait_for(dealer.recv_multipart(), REPLAY_TIMEOUT_S)
                number = int.from_bytes(number_bytes, "big", signed=True)
                if number < 0:
                    break
                number_to_payload[number] = payload
        except TimeoutError:
            logger.warning("The engine does not send KV events again")
        finally:
            dealer.close(linger=0)
        self.num_replayed += sum(number in number_to_payload for number in range(start, end))
        return [number_to_payload.get(number) for number in range(start, end)]


def _waiting(subscriber: zmq.Socket[bytes]) -> Iterator[tuple[int, bytes]]:
    """Batches that have come, with their numbers."""
    with contextlib.suppress(zmq.Again):
        while True:
            _, number_bytes, payload = subscriber.recv_multipart(zmq.NOBLOCK)
            yield int.from_bytes(number_bytes, "big"), payload

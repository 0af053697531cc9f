"""A subscription to the KV events that one vLLM engine publishes over ZMQ, without holes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

import msgspec
import zmq
import zmq.asyncio

from serve_app.kv_wire import EngineBatch, EngineEvent

logger = logging.getLogger("ray.serve")

READ_INTERVAL_S = 0.25
"""Between two looks at what has come: being woken at each of an engine's steps costs more than what is done with it."""
REPLAY_TIMEOUT_S = 5.0
"""Between two of the batches that are sent again; vLLM looks for such requests ten times a second."""


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
        self.num_replayed = 0
        """Batches that had been missed."""

    async def batches(self) -> AsyncIterator[list[EngineEvent] | None]:
        """All since the engine's start, without end; None where some are lost for good."""
        context = zmq.Context()
        try:
            subscriber = context.socket(zmq.SUB)
            subscriber.set_hwm(0)
            subscriber.subscribe(b"")
            subscriber.connect(self._endpoint)
            expected = 0
            while True:
                for number, payload in _waiting(subscriber):
                    if number > expected:
                        for missed in await self._replay(zmq.asyncio.Context(context), expected, number):
                            yield self._decode(missed)
                    if number >= expected:
                        yield self._decode(payload)
                        expected = number + 1
                await asyncio.sleep(READ_INTERVAL_S)
        finally:
            context.destroy(linger=0)

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

"""A publisher of KV events that makes one message of what several of an engine's steps did: a plugin of vLLM.

vLLM publishes with each step, some fifty times a second, and each time wakes four threads in two processes, besides ten
times a second to look for who missed something. Here, what a prompt stores still goes out at once, as its request may
be over a moment later, and without a detour; what answers store and what is evicted is in no hurry
(docs/concepts/beliefs.md).

The package's metadata name `register` as a plugin, which vLLM calls in each of its processes. Where the package is not
installed, or `VLLM_PLUGINS` leaves it out, vLLM's own publisher says the same in more messages.

Adapter: private names of vLLM are listed in tests/serve_app/test_private_names.py.
"""

import time
from collections.abc import Iterable
from itertools import groupby
from threading import Event, Lock, Thread
from typing import Any

import msgspec
from vllm.distributed.kv_events import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventPublisher,
    KVEventBatch,
    ZmqEventPublisher,
)

from serve_app.prompt.vllm_hooks import publish_kv_events_by
from serve_app.replica.kv_events.wire import TOPIC
from serve_app.replica.private_logs import keep_out_clients_words

MAX_WAIT_S = 0.25
"""Seconds that an event may wait that is in no hurry: as long as the replica waits between two looks
(`subscription.READ_INTERVAL_S`)."""

LINGER_MS = 1000


class BatchingPublisher(EventPublisher):  # type: ignore[misc]  # vLLM is not followed
    """Events in their order, in few messages.

    Args:
        publisher: sends a batch as one message; is called by one thread at a time.
        max_wait_s: until an event is sent.

    """

    def __init__(self, publisher: "DirectPublisher", *, max_wait_s: float = MAX_WAIT_S) -> None:
        super().__init__()
        self._publisher = publisher
        self._max_wait_s = max_wait_s
        self._lock = Lock()
        self._waiting: list[Any] = []
        self._is_over = Event()
        self._flushing = Thread(target=self._flush_often, daemon=True, name="warmroute-kv-publisher")
        self._flushing.start()

    def publish(self, batch: KVEventBatch) -> None:
        """Take the events of one step."""
        with self._lock:
            self._waiting += batch.events
            if any(map(_is_urgent, batch.events)):
                self._flush()

    def shutdown(self) -> None:
        """Send what waits, and end."""
        self._is_over.set()
        self._flushing.join()
        self._publisher.shutdown()

    def get_publisher_config(self) -> Any:  # noqa: ANN401  vLLM's KVEventsConfig
        """The endpoints that it publishes on."""
        return self._publisher.get_publisher_config()

    def _flush_often(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._is_over.wait(self._max_wait_s)
            with self._lock:
                self._flush()
                self._publisher.send_again()

    def _flush(self) -> None:
        if self._waiting:
            events, self._waiting = self._waiting, []
            self._publisher.publish(KVEventBatch(ts=time.time(), events=_with_removals_joined(events)))


class DirectPublisher(ZmqEventPublisher):  # type: ignore[misc]  # vLLM is not followed
    """vLLM's, without the queue and the thread that empties it: ZMQ has both."""

    _encoder = msgspec.msgpack.Encoder()

    def publish(self, batch: KVEventBatch) -> None:
        """Send one message, and keep it for subscribers that miss it."""
        batch.data_parallel_rank = self._dp_rank
        number, payload = next(self._seq_gen), self._encoder.encode(batch)
        self._pub.send_multipart((self._topic_bytes, number.to_bytes(8, "big"), payload))
        self._buffer.append((number, payload))

    def send_again(self) -> None:
        """Answer a subscriber that has asked for old messages: a replica that starts has missed the first ones."""
        if self._replay is not None and self._replay.poll(0):
            self._service_replay()

    def shutdown(self) -> None:
        """Close its sockets, once what was sent is on its way."""
        self._thread.join()
        self._pub.close(linger=LINGER_MS)
        if self._replay is not None:
            self._replay.close(linger=0)

    def _publisher_thread(self) -> None:
        """vLLM starts it with the publisher: there is nothing for it to do."""


def _is_urgent(event: object) -> bool:
    """Whether it is about a prompt, or about all blocks. An answer fills one block at a time, on top of another one."""
    if isinstance(event, BlockStored):
        return len(event.block_hashes) > 1 or event.parent_block_hash is None
    return isinstance(event, AllBlocksCleared)


def _with_removals_joined(events: Iterable[Any]) -> list[Any]:
    """vLLM tells of each evicted block by itself, and a long prompt evicts hundreds in a row."""
    joined: list[Any] = []
    for kind, group in groupby(events, lambda event: (event.medium, event.group_idx) if _is_removal(event) else None):
        if kind is None:
            joined += group
        else:
            medium, group_idx = kind
            joined.append(BlockRemoved([name for event in group for name in event.block_hashes], medium, group_idx))
    return joined


def _is_removal(event: object) -> bool:
    return isinstance(event, BlockRemoved)


def make_publisher(data_parallel_rank: int, **options: Any) -> EventPublisher:  # noqa: ANN401  of vLLM's `KVEventsConfig`
    """Our publisher for our topic, or else vLLM's."""
    if options["topic"] == TOPIC:
        return BatchingPublisher(DirectPublisher(data_parallel_rank, **options))
    return ZmqEventPublisher(data_parallel_rank, **options)


def register() -> None:
    """vLLM's hook for plugins, in each of its processes."""
    publish_kv_events_by(make_publisher)
    keep_out_clients_words()

"""KV events of several steps in one message."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from vllm.distributed.kv_events import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventPublisherFactory,
    KVEventBatch,
    ZmqEventPublisher,
)

from serve_app.kv_publisher import TOPIC, BatchingPublisher, make_publisher, register

TIMEOUT_S = 20.0
LONG_S = 3600.0


class Sent:
    """Takes the place of vLLM's publisher."""

    def __init__(self) -> None:
        self.messages: list[list[Any]] = []
        self.came = Event()
        self.is_down = False

    def publish(self, batch: KVEventBatch) -> None:
        """One message."""
        assert not self.is_down, "nothing comes after the end"
        self.messages.append(batch.events)
        self.came.set()

    def shutdown(self) -> None:
        """The end."""
        self.is_down = True


@pytest.fixture
def sent() -> Sent:
    """Nothing yet."""
    return Sent()


@pytest.fixture
def publisher(sent: Sent) -> Iterator[BatchingPublisher]:
    """One that waits for longer than a test takes."""
    publisher = BatchingPublisher(sent, max_wait_s=LONG_S)
    yield publisher
    publisher.shutdown()


def batch(*events: Any) -> KVEventBatch:
    """Of one step."""
    return KVEventBatch(ts=0.0, events=list(events))


def stored(number: int, *, num_blocks: int = 1, parent: int | None = 0) -> BlockStored:
    """A chain."""
    return BlockStored([number] * num_blocks, parent, [1] * num_blocks, 1, None, "GPU", None)


def removed(*names: int, medium: str = "GPU", group_idx: int | None = None) -> BlockRemoved:
    """Blocks."""
    return BlockRemoved(list(names), medium, group_idx)


REMOVED = removed(9)


@pytest.mark.parametrize("urgent", [stored(3, num_blocks=2), stored(3, parent=None), AllBlocksCleared()])
def test_a_prompt_goes_out_at_once_with_what_waited(sent: Sent, publisher: BatchingPublisher, urgent: Any) -> None:
    """In the order of the steps."""
    publisher.publish(batch(stored(1)))
    publisher.publish(batch(REMOVED, stored(2)))
    assert sent.messages == []
    publisher.publish(batch(urgent))
    assert sent.messages == [[stored(1), REMOVED, stored(2), urgent]]


def test_blocks_evicted_in_a_row_are_told_together(sent: Sent, publisher: BatchingPublisher) -> None:
    """Of one tier and kind of cache, and in their place among the others."""
    publisher.publish(batch(removed(1), removed(2)))
    publisher.publish(batch(removed(3), removed(4, medium="CPU"), removed(5, group_idx=1), stored(6), removed(7)))
    publisher.publish(batch(AllBlocksCleared()))
    (events,) = sent.messages
    assert events == [
        removed(1, 2, 3),
        removed(4, medium="CPU"),
        removed(5, group_idx=1),
        stored(6),
        removed(7),
        AllBlocksCleared(),
    ]


def test_nothing_waits_for_long(sent: Sent) -> None:
    """Though no step follows."""
    publisher = BatchingPublisher(sent, max_wait_s=0.01)
    publisher.publish(batch(stored(1)))
    assert sent.came.wait(TIMEOUT_S)
    publisher.shutdown()
    assert sent.messages == [[stored(1)]]


def test_the_last_events_are_sent(sent: Sent) -> None:
    """Before the end."""
    publisher = BatchingPublisher(sent, max_wait_s=LONG_S)
    publisher.publish(batch(REMOVED))
    publisher.shutdown()
    assert sent.messages == [[REMOVED]]
    assert sent.is_down


@pytest.mark.parametrize(("topic", "kind"), [(TOPIC, BatchingPublisher), ("another", ZmqEventPublisher)])
def test_only_our_engines_publish_so(
    topic: str, kind: type, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Others in the same environment as ever; vLLM may call the hook several times."""
    monkeypatch.setattr(EventPublisherFactory, "_registry", dict(EventPublisherFactory._registry))
    register()
    register()
    assert EventPublisherFactory._registry["zmq"] is make_publisher
    publisher = make_publisher(0, endpoint=f"ipc://{tmp_path_factory.mktemp('kv')}/events", topic=topic)
    try:
        assert type(publisher) is kind
        assert publisher.get_publisher_config().topic == topic
    finally:
        publisher.shutdown()

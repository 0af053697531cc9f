"""KV events of several steps in one message."""

import asyncio
from collections.abc import Callable, Iterator
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import pytest

from serve_app.replica.kv_events.subscription import KvSubscription
from serve_app.replica.kv_events.wire import TOPIC, BlockStored

if TYPE_CHECKING:
    from serve_app.replica.kv_events.vllm_publisher import BatchingPublisher

TIMEOUT_S = 20.0
LONG_S = 3600.0


class Sent:
    """Takes the place of vLLM's publisher."""

    def __init__(self) -> None:
        self.messages: list[list[Any]] = []
        self.came = Event()
        self.is_down = False

    def publish(self, batch: Any) -> None:
        """Take one message."""
        assert not self.is_down, "nothing comes after the end"
        self.messages.append(batch.events)
        self.came.set()

    def send_again(self) -> None:
        """No subscriber misses anything."""

    def shutdown(self) -> None:
        """The end."""
        self.is_down = True


@pytest.fixture
def sent() -> Sent:
    """Nothing yet."""
    return Sent()


@pytest.fixture
def publisher(sent: Sent) -> "Iterator[BatchingPublisher]":
    """A publisher that waits for longer than a test takes."""
    publisher = make(sent, max_wait_s=LONG_S)
    yield publisher
    publisher.shutdown()


def make(sent: Sent, *, max_wait_s: float) -> "BatchingPublisher":
    """Before it."""
    from serve_app.replica.kv_events.vllm_publisher import BatchingPublisher

    return BatchingPublisher(cast("Any", sent), max_wait_s=max_wait_s)


def batch(*events: Any) -> Any:
    """The batch of one step."""
    from vllm.distributed.kv_events import KVEventBatch

    return KVEventBatch(ts=0.0, events=list(events))


def stored(number: int, *, num_blocks: int = 1, parent: int | None = 0) -> Any:
    """A chain."""
    from vllm.distributed.kv_events import BlockStored

    return BlockStored([number] * num_blocks, parent, [1] * num_blocks, 1, None, "GPU", None)


def removed(*names: int, medium: str = "GPU", group_idx: int | None = None) -> Any:
    """Blocks."""
    from vllm.distributed.kv_events import BlockRemoved

    return BlockRemoved(list(names), medium, group_idx)


def cleared() -> Any:
    """All blocks."""
    from vllm.distributed.kv_events import AllBlocksCleared

    return AllBlocksCleared()


@pytest.mark.parametrize(
    "make_urgent",
    [lambda: stored(3, num_blocks=2), lambda: stored(3, parent=None), cleared],
    ids=["a chain", "a prompt's start", "cleared"],
)
def test_a_prompt_goes_out_at_once_with_what_waited(
    sent: Sent, publisher: "BatchingPublisher", make_urgent: Callable[[], Any]
) -> None:
    """In the order of the steps."""
    publisher.publish(batch(stored(1)))
    publisher.publish(batch(removed(9), stored(2)))
    assert sent.messages == []
    publisher.publish(batch(make_urgent()))
    assert sent.messages == [[stored(1), removed(9), stored(2), make_urgent()]]


def test_blocks_evicted_in_a_row_are_told_together(sent: Sent, publisher: "BatchingPublisher") -> None:
    """Of one tier and kind of cache, and in their place among the others."""
    publisher.publish(batch(removed(1), removed(2)))
    publisher.publish(batch(removed(3), removed(4, medium="CPU"), removed(5, group_idx=1), stored(6), removed(7)))
    publisher.publish(batch(cleared()))
    (events,) = sent.messages
    assert events == [
        removed(1, 2, 3),
        removed(4, medium="CPU"),
        removed(5, group_idx=1),
        stored(6),
        removed(7),
        cleared(),
    ]


def test_nothing_waits_for_long(sent: Sent) -> None:
    """Though no step follows."""
    publisher = make(sent, max_wait_s=0.01)
    publisher.publish(batch(stored(1)))
    assert sent.came.wait(TIMEOUT_S)
    publisher.shutdown()
    assert sent.messages == [[stored(1)]]


def test_the_last_events_are_sent(sent: Sent) -> None:
    """Before the end."""
    publisher = make(sent, max_wait_s=LONG_S)
    publisher.publish(batch(removed(9)))
    publisher.shutdown()
    assert sent.messages == [[removed(9)]]
    assert sent.is_down


@pytest.mark.parametrize(("topic", "kind"), [(TOPIC, "BatchingPublisher"), ("another", "ZmqEventPublisher")])
def test_only_our_engines_publish_so(
    topic: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Others in the same environment as ever; vLLM may call the hook several times."""
    from vllm.distributed.kv_events import EventPublisherFactory

    from serve_app.replica.kv_events.vllm_publisher import make_publisher, register

    monkeypatch.setattr(EventPublisherFactory, "_registry", dict(EventPublisherFactory._registry))
    register()
    register()
    assert EventPublisherFactory._registry["zmq"] is make_publisher
    publisher = make_publisher(0, endpoint=f"ipc://{tmp_path_factory.mktemp('kv')}/events", topic=topic)
    try:
        assert type(publisher).__name__ == kind
        assert publisher.get_publisher_config().topic == topic
    finally:
        publisher.shutdown()


async def test_a_subscriber_gets_what_it_missed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each message once, in order, from the first on, though no one listened then."""
    from serve_app.replica.kv_events.vllm_publisher import make_publisher

    folder = tmp_path_factory.mktemp("kv")
    endpoint, replay_endpoint = f"ipc://{folder}/events", f"ipc://{folder}/replay"
    publisher = make_publisher(0, endpoint=endpoint, replay_endpoint=replay_endpoint, topic=TOPIC)
    batches = KvSubscription(endpoint, replay_endpoint).batches()
    try:
        coming = asyncio.ensure_future(anext(batches))
        num_sent = 0
        async with asyncio.timeout(TIMEOUT_S):
            while not coming.done():  # it joins when ZMQ is ready for it
                publisher.publish(batch(stored(num_sent, parent=None)))
                num_sent += 1
                await asyncio.wait([coming], timeout=0.02)
            received = [await coming] + [await anext(batches) for _ in range(num_sent - 1)]
        told = [event for events in received for event in events or ()]
        assert [each.block_hashes for each in told if isinstance(each, BlockStored)] == [[n] for n in range(num_sent)]
    finally:
        await batches.aclose()
        publisher.shutdown()

"""The engine's KV events as numbered updates for the routers."""

import logging
from collections.abc import AsyncIterator, Callable

from serve_app.messages.kv_updates import KvChange, KvUpdate
from serve_app.replica.kv_events.engine_blocks import EngineBlocks, UnsupportedCacheError
from serve_app.replica.kv_events.wire import AllBlocksCleared, EngineEvent

logger = logging.getLogger("ray.serve")

Post = Callable[[KvUpdate], None]


class KvFeed:
    """Numbers updates, so that a router notices when one is missing and gets a snapshot.

    When the engine's events cannot be followed any more, it says so once, and begins again when the engine's cache is
    emptied: then there is nothing that could have been missed.

    Args:
        blocks: the engine's blocks, none at first.
        post: takes an update; must not wait.

    """

    def __init__(self, blocks: EngineBlocks, post: Post) -> None:
        self._blocks = blocks
        self._post = post
        self._number = 0
        self._is_heard = False  # an engine that says nothing may have cached anything
        self._is_lost = False

    async def follow(self, batches: AsyncIterator[list[EngineEvent] | None]) -> None:
        """Read batches until they end; None stands for some that are lost."""
        try:
            async for events in batches:
                self.read(events)
        except Exception:
            self._lose("this replica cannot follow them any more")
            raise

    def read(self, events: list[EngineEvent] | None) -> None:
        """Read the next batch."""
        if events is None:
            self._lose("some are missing")
        else:
            self.apply(events)

    def apply(self, events: list[EngineEvent]) -> None:
        """Apply the events of one message."""
        self._is_heard = True
        changes: list[KvChange] = []
        for event in events:
            if self._is_lost and not isinstance(event, AllBlocksCleared):
                continue
            self._is_lost = False
            try:
                change = self._blocks.apply(event)
            except UnsupportedCacheError as error:
                self._lose(str(error))
                return
            if change is not None:
                changes.append(change)
        if changes:
            self._number += 1
            self._post(KvUpdate(self._number, tuple(changes), num_steps=1))

    def clear(self) -> None:
        """The engine's cache was emptied: vLLM tells so too, but only with its next step."""
        if self._is_known:
            self.apply([AllBlocksCleared()])

    def beat(self) -> None:
        """Say how far we are: a router that missed the last update would not know otherwise."""
        self._post(KvUpdate(self._number, kind="changes" if self._is_known else "lost"))

    def send_snapshot(self) -> None:
        """Send all blocks, for a router that wants to know them."""
        if self._is_known:
            self._post(KvUpdate(self._number, self._blocks.snapshot(), kind="snapshot"))

    @property
    def _is_known(self) -> bool:
        return self._is_heard and not self._is_lost

    def _lose(self, why: str) -> None:
        if not self._is_lost:
            logger.error("KV events cannot be used now; routers go by receipts: %s", why)
            self._is_lost = True
            self._number += 1
            self.beat()

"""A replica's word on its KV cache, from the engine's events to updates for the routers."""

import logging
from collections.abc import AsyncIterator, Callable

from serve_app.messages.kv_updates import KvChange, KvUpdate
from serve_app.replica.kv_events.engine_blocks import EngineBlocks, UnsupportedCacheError
from serve_app.replica.kv_events.wire import AllBlocksCleared, EngineEvent

logger = logging.getLogger("ray.serve")

Post = Callable[[KvUpdate], None]


class KvFeed:
    """Numbers updates, so that a router notices when one is missing and gets a snapshot.

    When the engine's events cannot be followed any more, it says so once, and begins anew when the engine's cache is
    emptied: then there is nothing that could have been missed.

    Args:
        account: of an empty cache.
        post: takes an update; must not wait.

    """

    def __init__(self, account: EngineBlocks, post: Post) -> None:
        self._account = account
        self._post = post
        self._number = 0
        self._is_heard = False  # an engine that says nothing may hold anything
        self._is_lost = False

    async def follow(self, batches: AsyncIterator[list[EngineEvent] | None]) -> None:
        """Until they end; None stands for some that are lost."""
        try:
            async for events in batches:
                self.read(events)
        except Exception:
            self._lose("this replica cannot follow them any more")
            raise

    def read(self, events: list[EngineEvent] | None) -> None:
        """The next batch."""
        if events is None:
            self._lose("some are missing")
        else:
            self.apply(events)

    def apply(self, events: list[EngineEvent]) -> None:
        """Those of one message."""
        self._is_heard = True
        changes: list[KvChange] = []
        for event in events:
            if self._is_lost and not isinstance(event, AllBlocksCleared):
                continue
            self._is_lost = False
            try:
                change = self._account.apply(event)
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
        """For a router that wants to know all there is."""
        if self._is_known:
            self._post(KvUpdate(self._number, self._account.snapshot(), kind="snapshot"))

    @property
    def _is_known(self) -> bool:
        return self._is_heard and not self._is_lost

    def _lose(self, why: str) -> None:
        if not self._is_lost:
            logger.error("KV events are of no use now, receipts must do: %s", why)
            self._is_lost = True
            self._number += 1
            self.beat()

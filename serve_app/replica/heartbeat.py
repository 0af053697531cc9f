"""A replica's heartbeat: it tells the routers its state, and ends the replica when its engine has died or hangs."""

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Awaitable, Callable

from serve_app.replica.engine_pulse import EnginePulse
from serve_app.replica.kv_events.feed import KvFeed
from serve_app.replica.running_requests import RunningRequests
from serve_app.replica.standstill import end_unless_moving
from serve_app.replica.vllm_outputs import EngineWatch, dead_engine_error
from serve_app.settings.schema import ReplicaSettings

logger = logging.getLogger("ray.serve")

STREAMS_TOLD_S = 10.0
"""How long vLLM may take to notice the engine's death."""
LAST_WORDS_S = 1.0
"""How long the replica's own last words may take after that."""


class Heartbeat:
    """Used on the replica's event loop only.

    Args:
        running: the running requests and the state that the routers are told.
        watch: the watch over the engine's processes and streams.
        ask: a question that the engine's loop answers.
        feed: the replica's KV events; None where they are off.
        tokenizer: the tokenizer in use now.
        settings: the replica's settings.

    """

    def __init__(
        self,
        running: RunningRequests,
        watch: EngineWatch,
        *,
        ask: Callable[[], Awaitable[object]],
        feed: KvFeed | None,
        tokenizer: Callable[[], str],
        settings: ReplicaSettings,
    ) -> None:
        self._running = running
        self._watch = watch
        self._pulse = EnginePulse(ask, max_missed=math.ceil(settings.hang_s / settings.heartbeat_s))
        self._feed = feed
        self._tokenizer = tokenizer
        self._heartbeat_s = settings.heartbeat_s
        self._hang_s = settings.hang_s

    async def beat(self) -> None:
        """Tell the routers that the replica is here; and leave when the engine has died, as vLLM's own server does.

        Serve would need three failed health checks to find that out. The pause lets the broken streams end with
        vLLM's error, and the routers hear of it.
        """
        while self._running.is_serving:
            if self._feed is not None:
                self._feed.beat()
            self._running.tokenizer = self._tokenizer()
            self._running.report_status()
            await asyncio.sleep(self._heartbeat_s)
        logger.error("The engine died; this replica ends, for Serve to start another")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._watch.streams_told.wait(), STREAMS_TOLD_S)
        await asyncio.sleep(LAST_WORDS_S)
        os._exit(1)

    async def feel_pulse(self) -> None:
        """Give up an engine that hangs. To be started once the engine is warm: it may compile for minutes before."""
        while self._running.is_serving:
            end_unless_moving(self._hang_s)
            self._pulse.beat()
            if self._pulse.is_lost:
                logger.error("The engine hangs: it has not answered for %g s (replicas.hang_s)", self._hang_s)
                self._watch.give_up(dead_engine_error())
            await asyncio.sleep(self._heartbeat_s)

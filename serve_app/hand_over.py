"""Where replicas come and go, what is cached goes on: the one that joins is warmed with the hottest prefixes that it
will be asked for, and the one that leaves gives its conversations to those that will have them.

Token ids travel between replicas only, in memory. Prompts with a salt, an adapter or media stay where they are.
"""

import asyncio
import logging
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from typing import Any, Protocol

from router import BlockHash, ReplicaId
from serve_app.delivery import DeliveryError
from serve_app.receipts import Report, Warmed
from serve_app.recent_prompts import RecentPrompts

logger = logging.getLogger("ray.serve")

JOIN_S = 30.0
"""How long clients of a replica that joins may have to wait for it to be warm."""
TAKE_OVER_S = 60.0
"""After so long, who wanted to go on with a conversation has done so mostly, or will not."""
LEFT_AFTER_S = 2.0
"""Whom no router knows for so long has left; for a moment, Serve may not list one that takes new settings."""
PAUSE_S = 0.05
"""Until the next look whether clients wait."""


class Peers(Protocol):
    """The other replicas, and the routers. Every call may raise `DeliveryError`."""

    async def prefixes_for(self, rank: int) -> list[BlockHash]:
        """Those that a replica of this rank should have, the hottest first, by a router."""

    async def fetch(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """Token ids of the prefixes that end with these blocks, as far as a replica has them."""

    async def places_of(self, prompts: Sequence[Sequence[BlockHash]]) -> list[ReplicaId]:
        """Who shall have each of these, by a router."""

    async def give(self, replica_to_prompts: Mapping[ReplicaId, Sequence[bytes]]) -> None:
        """To each its own."""


class HandOver:
    """A replica's part in it. Used on its event loop only.

    Args:
        replica_id: its own.
        prompts: that it served.
        peers: the others.
        prefill: computes a prompt, by its token ids; whether that went well.
        report: takes receipts.
        is_busy: whether clients wait for a first token.
        clock: seconds, monotonic.

    """

    def __init__(
        self,
        replica_id: ReplicaId,
        prompts: RecentPrompts,
        peers: Peers,
        *,
        prefill: Callable[[Sequence[int]], Awaitable[bool]],
        report: Report,
        is_busy: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._replica_id = replica_id
        self._prompts = prompts
        self._peers = peers
        self._prefill = prefill
        self._report = report
        self._is_busy = is_busy
        self._clock = clock
        self._is_member = False
        self._unknown_since_s: float | None = None
        self._has_left = False
        self._unreported: list[Warmed] = []
        self._waiting: deque[tuple[float, array[int]]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        """What is under way."""
        self._taking_over: asyncio.Task[None] | None = None

    async def join(self, rank: int) -> None:
        """Before the first client: compute what will be wanted here. Takes `JOIN_S` at most; without peers, nothing."""
        try:
            async with asyncio.timeout(JOIN_S):
                wanted = await self._peers.prefixes_for(rank)
                found = await self._peers.fetch(wanted) if wanted else {}
                for each in wanted:
                    if each in found:
                        await self._warm(array("I", found[each]))
        except TimeoutError:
            logger.info("Joining after %.0f s with what is warm by now", JOIN_S)
        except DeliveryError as error:
            logger.info("Nobody to be warmed by: %s", error)
        logger.info("Warmed with %d prefixes", len(self._unreported))

    def on_membership(self, answers: Iterable[bool | None]) -> None:
        """What the routers say to the last receipts: whether this replica is one of theirs; None from one that knows no
        replica yet.
        """
        known = [each for each in answers if each is not None]
        if not known:
            return
        if all(known):
            self._is_member, self._has_left = True, False
            self._report_warmed()
        if any(known):
            self._unknown_since_s = None
        elif self._is_member and not self._has_left:
            self._on_unknown()

    def _on_unknown(self) -> None:
        now_s = self._clock()
        if self._unknown_since_s is None:
            self._unknown_since_s = now_s
        if now_s - self._unknown_since_s >= LEFT_AFTER_S:
            self._has_left = True
            self._start(self.leave())

    async def leave(self) -> None:
        """Give the conversations to those that will have them, the last ones first."""
        prompts = list(self._prompts.newest_first())
        if not prompts:
            return
        try:
            places = await self._peers.places_of([each.block_hashes for each in prompts])
            replica_to_prompts: dict[ReplicaId, list[bytes]] = {}
            for prompt, place in zip(prompts, places, strict=True):
                replica_to_prompts.setdefault(place, []).append(prompt.token_ids.tobytes())
            await self._peers.give(replica_to_prompts)
        except DeliveryError as error:
            logger.warning("Left without handing over: %s", error)
        else:
            logger.info("Handed over %d prompts to %d replicas", len(prompts), len(replica_to_prompts))

    def share(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """For a replica that joins."""
        found = self._prompts.find(block_hashes)
        return {block_hash: prompt.token_ids.tobytes() for block_hash, prompt in found.items()}

    def take_over(self, replica_to_prompts: Mapping[ReplicaId, Sequence[bytes]]) -> None:
        """From one that leaves: compute what is ours, one after the other while no client waits."""
        until_s = self._clock() + TAKE_OVER_S
        self._waiting.extend((until_s, array("I", each)) for each in replica_to_prompts.get(self._replica_id, ()))
        if self._waiting and self._taking_over is None:
            self._taking_over = self._start(self._take_over_waiting())

    async def _take_over_waiting(self) -> None:
        try:
            while self._waiting:
                until_s, token_ids = self._waiting.popleft()
                if await self._is_idle_before(until_s):
                    await self._warm(token_ids)
                    self._report_warmed()
        finally:
            self._taking_over = None

    async def _is_idle_before(self, until_s: float) -> bool:
        while self._clock() < until_s:
            if not self._is_busy():
                return True
            await asyncio.sleep(PAUSE_S)
        return False

    async def _warm(self, token_ids: "array[int]") -> None:
        if await self._prefill(token_ids):
            kept = self._prompts.add(token_ids)
            if kept is not None:
                self._unreported.append(Warmed(kept.block_hashes))

    def _report_warmed(self) -> None:
        if self._is_member:
            for each in self._unreported:
                self._report(each)
            self._unreported.clear()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Outside of the request that happens to be served now."""
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

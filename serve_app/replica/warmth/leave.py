"""A replica that leaves gives what it served last to those that stay, as far as they have room for it.

Token ids travel between replicas only, in memory. Prompts with a salt, an adapter or media stay where they are.

Whoever takes over computes prompts again, and what that evicts may be worth more: giving everything lowered hit rates
(docs/operate/scaling.md). So only those are computed that one LRU of what both had would still have.
"""

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import Context
from typing import Any, NamedTuple, Protocol

from router import BlockHash, ReplicaId
from serve_app.messages.delivery import DeliveryError
from serve_app.messages.receipts import BatchAnswer, Report, Warmed
from serve_app.replica.warmth.recent_prompts import KeptPrompt, RecentPrompts

logger = logging.getLogger("ray.serve")

TAKE_OVER_S = 60.0
"""Seconds in which most clients that want to continue a conversation have done so."""
LEFT_AFTER_S = 2.0
"""Seconds for which no router knows a replica that has left; for a moment, Serve may not list one that takes new
settings."""
PAUSE_S = 0.05
"""Seconds until the next look whether clients wait."""
CAPACITY_SHARE = 0.9
"""Share of the KV cache that prompts may fill; answers and running requests need some as well."""


class Given(NamedTuple):
    """A prompt on its way to another replica."""

    token_ids: bytes
    """Unsigned integers of four bytes."""
    unused_s: float
    """How long ago it was served last: clocks differ from process to process."""


class Received(NamedTuple):
    """A prompt that waits to be computed; both times by our clock."""

    token_ids: "array[int]"
    used_s: float
    until_s: float
    """Time after which it is not computed any more."""


class Heirs(Protocol):
    """The other replicas, and the routers, who know which of them shall have what. May raise `DeliveryError`."""

    async def places_of(self, prompts: Sequence[Sequence[BlockHash]]) -> list[ReplicaId]:
        """The replica that shall have each of these prompts, by a router."""

    async def give(self, replica_to_prompts: Mapping[ReplicaId, Sequence[Given]]) -> None:
        """Give to each replica its own."""


class HandOver:
    """A replica's part in it, be it the one that leaves or one that stays. Used on its event loop only.

    Args:
        replica_id: this replica's id.
        prompts: the prompts that it served.
        heirs: the other replicas.
        prefill: computes a prompt, by its token ids; says whether that went well.
        report: takes receipts.
        is_busy: whether clients wait for a first token.
        max_tokens: the size of its KV cache.
        clock: seconds, monotonic; that of `prompts`.

    """

    def __init__(
        self,
        replica_id: ReplicaId,
        prompts: RecentPrompts,
        heirs: Heirs,
        *,
        prefill: Callable[[Sequence[int]], Awaitable[bool]],
        report: Report,
        is_busy: Callable[[], bool],
        max_tokens: int,
        clock: Callable[[], float],
    ) -> None:
        self._replica_id = replica_id
        self._prompts = prompts
        self._heirs = heirs
        self._prefill = prefill
        self._report = report
        self._is_busy = is_busy
        self._max_tokens = round(CAPACITY_SHARE * max_tokens)
        self._clock = clock
        self._is_member = False
        self._unknown_since_s: float | None = None
        self._has_left = False
        self._waiting: list[Received] = []
        self.tasks: set[asyncio.Task[None]] = set()
        """The running tasks."""
        self._taking_over: asyncio.Task[None] | None = None

    def on_membership(self, answers: Iterable[BatchAnswer]) -> None:
        """The routers answered the last receipts, each of which says whether this replica is one of theirs."""
        known = [answer.knows_replica for answer in answers if answer is not BatchAnswer.UNDECIDED]
        if not known:
            return
        if all(known):
            self._is_member, self._has_left = True, False
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
        """Give the prompts to those that will have them."""
        prompts, now_s = list(self._prompts.newest_first()), self._clock()
        if not prompts:
            return
        try:
            places = await self._heirs.places_of([prompt.block_hashes for prompt in prompts])
            replica_to_prompts: dict[ReplicaId, list[Given]] = {}
            for prompt, place in zip(prompts, places, strict=True):
                given = Given(prompt.token_ids.tobytes(), now_s - prompt.used_s)
                replica_to_prompts.setdefault(place, []).append(given)
            await self._heirs.give(replica_to_prompts)
        except DeliveryError as error:
            logger.warning("Left without handing over: %s", error)
        else:
            logger.info("Handed over %d prompts to %d replicas", len(prompts), len(replica_to_prompts))

    def take_over(self, replica_to_prompts: Mapping[ReplicaId, Sequence[Given]]) -> None:
        """Compute what a leaving replica gives to this one, as far as it fits, one by one while no client waits."""
        now_s = self._clock()
        self._waiting.extend(
            Received(array("I", given.token_ids), now_s - given.unused_s, now_s + TAKE_OVER_S)
            for given in replica_to_prompts.get(self._replica_id, ())
        )
        if self._waiting and self._taking_over is None:
            self._taking_over = self._start(self._take_over_waiting())

    async def _take_over_waiting(self) -> None:
        try:
            while await self._is_idle() and self._waiting:
                received = self._waiting.pop(0)
                if await self._prefill(received.token_ids):
                    kept = self._prompts.add(received.token_ids, used_s=received.used_s)
                    if kept is not None:
                        self._report(Warmed(kept.block_hashes))
        finally:
            self._taking_over = None

    async def _is_idle(self) -> bool:
        """Wait for it while a prompt waits that is in time; of these, keep what fits by then."""
        while self._waiting:
            if not self._is_busy():
                self._waiting = self._fitting()
                return True
            self._waiting = self._in_time()
            await asyncio.sleep(PAUSE_S)
        return False

    def _in_time(self) -> list[Received]:
        now_s = self._clock()
        return [received for received in self._waiting if now_s < received.until_s]

    def _fitting(self) -> list[Received]:
        """The waiting prompts that are among the last served prompts of both, as far as they fit; the newest first."""
        fitting, num_tokens = list[Received](), 0
        both: list[KeptPrompt | Received] = [*self._prompts.newest_first(), *self._in_time()]
        for prompt in sorted(both, key=lambda prompt: -prompt.used_s):
            num_tokens += len(prompt.token_ids)
            if num_tokens > self._max_tokens:
                break
            if isinstance(prompt, Received):
                fitting.append(prompt)
        return fitting

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Outside of the request that happens to be served now."""
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

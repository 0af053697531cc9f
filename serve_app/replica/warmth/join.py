"""A replica that joins is warmed with the hottest prefixes that it will be asked for, before its first client.

Token ids travel between replicas only, in memory. Prompts with a salt, an adapter or media stay where they are.
"""

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from router import BlockHash
from serve_app.messages.delivery import DeliveryError
from serve_app.messages.receipts import BatchAnswer, Report, Warmed
from serve_app.replica.warmth.recent_prompts import RecentPrompts

logger = logging.getLogger("ray.serve")

JOIN_S = 30.0
"""How long clients of a replica that joins may have to wait for it to be warm."""


class Neighbours(Protocol):
    """The other replicas, and the routers. Every call may raise `DeliveryError`."""

    async def prefixes_for(self, rank: int) -> list[BlockHash]:
        """The prefixes that a replica of this rank should have, the hottest first, by a router."""

    async def fetch(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """Token ids of the prefixes that end with these blocks, as far as a replica has them."""


class WarmUp:
    """A replica's part in it. Used on its event loop only.

    Args:
        prompts: the prompts that it served.
        neighbours: the other replicas, and the routers.
        prefill: computes a prompt, by its token ids; says whether that went well.
        report: takes receipts.

    """

    def __init__(
        self,
        prompts: RecentPrompts,
        neighbours: Neighbours,
        *,
        prefill: Callable[[Sequence[int]], Awaitable[bool]],
        report: Report,
    ) -> None:
        self._prompts = prompts
        self._neighbours = neighbours
        self._prefill = prefill
        self._report = report
        self._unreported: list[Warmed] = []

    async def join(self, rank: int) -> None:
        """Compute what will be wanted here, before the first client comes, for at most `JOIN_S` seconds."""
        try:
            async with asyncio.timeout(JOIN_S):
                wanted = await self._neighbours.prefixes_for(rank)
                found = await self._neighbours.fetch(wanted) if wanted else {}
                for block_hash in wanted:
                    if block_hash in found:
                        await self._warm(array("I", found[block_hash]))
        except TimeoutError:
            logger.info("Joining after %.0f s with what is warm by now", JOIN_S)
        except DeliveryError as error:
            logger.info("No neighbour to be warmed by: %s", error)
        logger.info("Warmed with %d prefixes", len(self._unreported))

    def on_membership(self, answers: Iterable[BatchAnswer]) -> None:
        """The routers answered the last receipts. Once all of them know this replica, it tells what was warmed."""
        known = [answer.knows_replica for answer in answers if answer is not BatchAnswer.UNDECIDED]
        if known and all(known):
            for warmed in self._unreported:
                self._report(warmed)
            self._unreported.clear()

    def share(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """Token ids of the prefixes that end with these blocks, as far as they are here, for a replica that joins."""
        found = self._prompts.find(block_hashes)
        return {block_hash: prompt.token_ids.tobytes() for block_hash, prompt in found.items()}

    async def _warm(self, token_ids: "array[int]") -> None:
        if await self._prefill(token_ids):
            kept = self._prompts.add(token_ids)
            if kept is not None:
                self._unreported.append(Warmed(kept.block_hashes))

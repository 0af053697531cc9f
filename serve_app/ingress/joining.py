"""A router that joins takes over what the other routers know of each replica and have booked there."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from router import ReplicaId
from serve_app.ingress.ready_router import ReadyRouter
from serve_app.ingress.unready_router import UnreadyRouter
from serve_app.messages.delivery import DeliveryError

logger = logging.getLogger("ray.serve")

REPLICAS_TIMEOUT_S = 1.0
"""Seconds in which Serve names the running replicas, if there are any."""


class Joining:
    """Used on the router's event loop only.

    Args:
        router: the process's router now.
        ask: asks all other routers for their state of a replica; may raise `DeliveryError`.

    """

    def __init__(
        self, router: Callable[[], ReadyRouter | UnreadyRouter], ask: Callable[[ReplicaId], Awaitable[list[Any]]]
    ) -> None:
        self._router = router
        self._ask = ask
        self._later: list[asyncio.Task[bool]] = []
        self.replicas_seen = asyncio.Event()
        """An event that is set once replicas are known."""

    async def is_alone(self) -> bool:
        """Whether replicas run and no other router does: clients get 503 until this one answers, so it must at once.

        Whatever the other routers know is taken over here, for the first decision.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.replicas_seen.wait(), REPLICAS_TIMEOUT_S)
        return self.replicas_seen.is_set() and not await self._join()

    def join_again(self) -> None:
        """Once, now that others reach this router: there may be more to take over than when it asked them first."""
        if not self._later:
            self._later.append(asyncio.create_task(self._join()))

    async def _join(self) -> bool:
        """Take over what the other routers know and have booked; says whether one answered."""
        states: list[bytes] = []
        for replica in self._router().replicas:
            try:
                answers = await self._ask(replica.replica_id)
            except DeliveryError as error:
                logger.info("No state from other routers: %s", error)
                break
            states += [answer for answer in answers if isinstance(answer, bytes)]
        self._router().on_states(states)
        return bool(states)

"""A replica's way to the other replicas and to the routers, over Ray Serve's deployment handles."""

from collections.abc import Mapping, Sequence
from typing import Any

from router import BlockHash, ReplicaId
from serve_app.control.ray_broadcast import answers_of, handle_of
from serve_app.messages.delivery import DeliveryError
from serve_app.replica.warmth.leave import Given

ASK_S = 5.0
"""Seconds for one call, whose answer may have some megabytes."""


class ServeNeighbours:
    """The other replicas and the routers (`serve_app.replica.warmth.join.Neighbours`, `.leave.Heirs`).

    Args:
        application: the application's name.
        replicas: the replicas' deployment.
        routers: the routers' deployment.

    """

    def __init__(self, *, application: str, replicas: str, routers: str) -> None:
        self._application = application
        self._replicas = replicas
        self._routers = routers

    async def prefixes_for(self, rank: int) -> list[BlockHash]:
        """The prefixes that the first router names that knows any."""
        answers = await self._ask(self._routers, "prefixes_for", rank)
        return next((answer for answer in answers if answer), [])

    async def fetch(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """Token ids from all running replicas."""
        found: dict[BlockHash, bytes] = {}
        for answer in await self._ask(self._replicas, "share_prompts", list(block_hashes)):
            found |= answer
        return found

    async def places_of(self, prompts: Sequence[Sequence[BlockHash]]) -> list[ReplicaId]:
        """The replicas that the first router names that knows any."""
        answers = await self._ask(self._routers, "places_of", list(prompts))
        places = next((answer for answer in answers if answer), None)
        if places is None:
            raise DeliveryError("no router knows a replica")
        return list(places)

    async def give(self, replica_to_prompts: Mapping[ReplicaId, Sequence[Given]]) -> None:
        """Give the prompts to all running replicas, each of which takes its own."""
        await self._ask(self._replicas, "take_over", dict(replica_to_prompts))

    async def _ask(self, deployment: str, method: str, argument: Any) -> list[Any]:  # noqa: ANN401
        return await answers_of(handle_of(deployment, self._application), method, argument, timeout_s=ASK_S)

"""A replica's way to the other replicas and to the routers, over Ray Serve's deployment handles."""

from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from router import BlockHash
from serve_app.broadcast import ask_all
from serve_app.delivery import DeliveryError

ASK_S = 5.0
"""For one call; what is asked for may be some megabytes."""


class ServePeers:
    """See `serve_app.warm_up.Peers`.

    Args:
        application: of both.
        replicas: the replicas' deployment.
        routers: the routers'.

    """

    def __init__(self, *, application: str, replicas: str, routers: str) -> None:
        self._application = application
        self._replicas = replicas
        self._routers = routers

    async def prefixes_for(self, rank: int) -> list[BlockHash]:
        """By the first router that knows any."""
        answers = await self._ask(self._routers, "prefixes_for", rank)
        return next((answer for answer in answers if answer), [])

    async def fetch(self, block_hashes: Sequence[BlockHash]) -> dict[BlockHash, bytes]:
        """From all replicas that run."""
        found: dict[BlockHash, bytes] = {}
        for answer in await self._ask(self._replicas, "share_prompts", list(block_hashes)):
            found |= answer
        return found

    async def _ask(self, deployment: str, method: str, argument: Any) -> list[Any]:  # noqa: ANN401
        answers = await ask_all(self._handle(deployment), method, argument, timeout_s=ASK_S)
        return [answer for answer in answers if not isinstance(answer, Exception)]

    def _handle(self, deployment: str) -> DeploymentHandle:
        try:
            return serve.get_deployment_handle(deployment, app_name=self._application)
        except (RayServeException, RayError) as error:
            raise DeliveryError(f"{type(error).__name__}: no handle of {deployment}") from error

"""What replicas and routers tell all ingress routers, over HTTP connections that are kept.

A call by Ray Serve's handles takes many times as much of the cores, and there are some for each request; so those are
left for what is seldom asked.

Adapter: private names of Ray are listed in tests/serve_app/test_private_names.py.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import aiohttp
import orjson
from ray.serve._private.common import DeploymentID, RunningReplicaInfo
from yarl import URL

from serve_app.control.ray_long_poll import follow_replicas
from serve_app.edge.options import TOKEN_HEADER, edge_token
from serve_app.messages import batches
from serve_app.messages.delivery import DeliveryError, Item, Send


class RouterChannel:
    """Calls every router of an application, on the event loop on which it is made.

    Args:
        deployment: the routers' deployment.
        app_name: the application's name.
        own_id: the id of the router that calls, which does not call itself; empty for a replica.

    """

    def __init__(self, deployment: str, app_name: str, *, own_id: str = "") -> None:
        self._own_id = own_id
        self._id_to_url: Mapping[str, URL] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={TOKEN_HEADER: edge_token()},
        )
        self._following = follow_replicas(
            DeploymentID(deployment, app_name), self._on_routers, client_id=f"warmroute-channel:{own_id}"
        )

    async def call_all(self, path: str, payload: bytes, *, timeout_s: float) -> list[Any]:
        """Each router's answer to a POST there, from its JSON, or the exception with which the call failed.

        Raises:
            DeliveryError: no router is running, unless the only one calls.

        """
        if not self._id_to_url and not self._own_id:
            raise DeliveryError("no router is running")
        calls = (self._call(url.with_path(path), payload, timeout_s) for url in self._id_to_url.values())
        return await asyncio.gather(*calls, return_exceptions=True)

    async def _call(self, url: URL, payload: bytes, timeout_s: float) -> Any:  # noqa: ANN401  whatever JSON holds
        async with asyncio.timeout(timeout_s), self._session.post(url, data=payload) as response:
            response.raise_for_status()
            return orjson.loads(await response.read())

    def _on_routers(self, routers: Sequence[RunningReplicaInfo]) -> None:
        """Serve says which routers run now."""
        self._id_to_url = {
            info.replica_id.unique_id: URL.build(scheme="http", host=info.node_ip, port=info.backend_http_port)
            for info in routers
            if info.replica_id.unique_id != self._own_id
        }


def send_to_routers(
    channel: RouterChannel,
    path: str,
    *,
    sender: str,
    timeout_s: float,
    on_answers: Callable[[list[Any]], None] | None = None,
    encode: Callable[[str, int, Sequence[Item]], bytes] = batches.encode,
) -> Send[Item]:
    """A `send` that tells every router, with the batch as one message. `on_answers` has those of all that took it."""
    numbers = count(1)

    async def send(batch: Sequence[Item]) -> None:
        answers = await channel.call_all(path, encode(sender, next(numbers), batch), timeout_s=timeout_s)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if on_answers is not None:
            on_answers([answer for answer in answers if not isinstance(answer, BaseException)])
        if failures:
            msg = f"{len(failures)} of {len(answers)} routers failed {path}: {type(failures[0]).__name__}"
            raise DeliveryError(msg)

    return send

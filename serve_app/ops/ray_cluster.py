"""The running Serve applications, as the collector reads them."""

import asyncio
import contextlib
from collections.abc import Collection

import msgspec
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_app.control.ray_broadcast import answers_of, handle_of
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.messages.delivery import DeliveryError
from serve_app.messages.snapshot import RouterSnapshot

DISCOVERY_S = 5.0
ANSWER_TIMEOUT_S = 5.0


class ServeCluster:
    """The applications of this cluster that have Warmroute's routers.

    Args:
        only: those of them to read; None for all.

    """

    def __init__(self, only: Collection[str] | None = None) -> None:
        self._only = only
        self._names: list[str] = []
        self._looked_at_s = float("-inf")
        self._name_to_handle: dict[str, DeploymentHandle] = {}

    async def applications(self) -> list[str]:
        """The names of the applications that have routers, as of a few seconds ago."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_at_s >= DISCOVERY_S:
            with contextlib.suppress(RayServeException, RayError):  # Serve's controller may be starting again
                names = await asyncio.to_thread(_applications_with_routers)
                self._names = [name for name in names if self._only is None or name in self._only]
            self._looked_at_s = now_s
        return self._names

    async def snapshots(self, application: str, num_prefixes: int) -> list[RouterSnapshot]:
        """A snapshot of each router that answers, with at most `num_prefixes` of the hottest prefixes."""
        # Routers of an older version, during an upgrade, can be asked for none.
        wishes = (num_prefixes,) if num_prefixes else ()
        try:
            if application not in self._name_to_handle:
                self._name_to_handle[application] = handle_of(ROUTER_DEPLOYMENT, application)
            handle = self._name_to_handle[application]
            answers = await answers_of(handle, "snapshot", *wishes, timeout_s=ANSWER_TIMEOUT_S)
            return [RouterSnapshot.from_plain(answer) for answer in answers]
        except (DeliveryError, msgspec.ValidationError):  # the latter of a version that is too old
            return []


def _applications_with_routers() -> list[str]:
    applications = serve.status().applications
    return sorted(name for name, status in applications.items() if ROUTER_DEPLOYMENT in status.deployments)

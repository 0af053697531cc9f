"""The running server that `warmroute serve` started from this folder, seen over Ray, Serve's API and HTTP."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.snapshots import is_idle
from loadtests.client.exchange import TIMEOUT_S
from loadtests.report.console import notes_console
from serve_app.control.running_application import RunningApplication
from serve_app.control.serve_api import ServeApi
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.local import server as local_server
from serve_app.local.cluster import LocalRun
from serve_app.messages.snapshot import RouterSnapshot
from serve_app.settings.schema import ReplicaSettings, RouterSettings, Settings

SNAPSHOT_TIMEOUT_S = 5.0
POLL_S = 0.25
IDLE_TIMEOUT_S = 180.0

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ServeReplica:
    """A replica of one of the application's deployments, as Serve lists it."""

    deployment: str
    replica_id: str
    """The short one."""
    state: str
    pid: int | None

    @property
    def is_router(self) -> bool:
        """Whether it is an ingress router, not a vLLM replica."""
        return self.deployment == ROUTER_DEPLOYMENT

    @property
    def is_running(self) -> bool:
        """Whether Serve lists it as running."""
        return self.state == "RUNNING" and self.pid is not None


class Server:
    """The running application. Ray's calls block, so they are made in threads."""

    def __init__(self, run: LocalRun, application: RunningApplication) -> None:
        from ray import serve

        self.run = run
        self.application = application
        self._api = ServeApi(run.dashboard_url)
        # Of our own: a router that has just been killed must not cost us the others' answers.
        self._routers = serve.get_deployment_handle(ROUTER_DEPLOYMENT, app_name=run.application)
        self._ask_routers()

    def client(self, *, keep_alive: bool = True) -> httpx.AsyncClient:
        """A client for any number of requests at a time.

        Args:
            keep_alive: without, every request has its own connection, so none is lost with a connection that
                the server closed while it was idle.

        """
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None if keep_alive else 0)
        return httpx.AsyncClient(base_url=self.run.url, timeout=TIMEOUT_S, limits=limits, trust_env=False)

    async def routers(self) -> list[RouterSnapshot]:
        """The snapshot of each router that answers."""
        return await asyncio.to_thread(self._ask_routers)

    async def replicas(self) -> list[ServeReplica]:
        """Routers and vLLM replicas, as Serve lists them."""
        deployments = (await self._details())["deployments"]
        return [
            ServeReplica(deployment, replica["replica_id"], replica["state"], replica.get("pid"))
            for deployment, details in deployments.items()
            for replica in details["replicas"]
        ]

    async def router_settings(self) -> RouterSettings:
        """The router settings as deployed."""
        arguments = (await self._details())["deployed_app_config"]["args"]
        return RouterSettings.model_validate(arguments["routers"])

    async def wait_until_idle(self, *, timeout_s: float = IDLE_TIMEOUT_S) -> list[RouterSnapshot]:
        """The last snapshots, once no router counts anything outstanding or the time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            routers = await self.routers()
            if is_idle(routers) or time.monotonic() > deadline:
                return routers
            await asyncio.sleep(POLL_S)

    async def _details(self) -> dict[str, Any]:
        details = await asyncio.to_thread(self._api.application, self.run.application)
        if details is None:
            raise MeasurementError(f"no application {self.run.application!r} at {self.run.dashboard_url}")
        return details

    def _ask_routers(self) -> list[RouterSnapshot]:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            answers = self._routers.broadcast("snapshot").results(timeout_s=SNAPSHOT_TIMEOUT_S, return_exceptions=True)
        except (RayServeException, RayError, TimeoutError):
            return []
        return [RouterSnapshot.from_plain(answer) for answer in answers if not isinstance(answer, Exception)]


async def until(is_so: Callable[[], bool], *, timeout_s: float, poll_s: float = POLL_S) -> bool:
    """Wait for it; False when the time was up first."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(poll_s)
    return True


def require_full_headers(api: ServeApi, application: str) -> None:
    """Refuse a server whose answers do not say which replica gave them and why.

    Raises:
        MeasurementError: this application's answers do not say it.

    """
    details = api.application(application) or {"deployed_app_config": {"args": {}}}
    replicas = ReplicaSettings.model_validate(details["deployed_app_config"]["args"].get("replicas", {}))
    if replicas.explain_headers != "full":
        raise MeasurementError(
            f"not available: with replicas.explain_headers: {replicas.explain_headers}, answers do not say which "
            "replica gave them and why; set it to full, and serve again"
        )


@contextlib.contextmanager
def running_server(*, full_headers: bool = False) -> Iterator[Server]:
    """The server that was started from this folder.

    Args:
        full_headers: whether answers have to say which replica gave them and why.

    Raises:
        MeasurementError: there is none, or its answers do not say enough.

    """
    run = LocalRun.load()
    if run is None:
        raise MeasurementError(
            "no cluster was started from this folder: run `warmroute serve CONFIG` or `make serve` first"
        )
    with RunningApplication(
        run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url
    ) as application:
        run.take_secret()
        if full_headers:
            require_full_headers(ServeApi(run.dashboard_url), run.application)
        yield Server(run, application)


@contextlib.contextmanager
def own_server(
    settings: Settings,
    *,
    beside: Sequence[Mapping[str, Any]] = (),
    config: dict[str, Any] | None = None,
) -> Iterator[LocalRun]:
    """A cluster of its own with the application, from ready until the block ends; as `serve_app.local.server` does."""
    with local_server.running(settings, notes_console(), threading.Event(), beside=beside, config=config) as run:
        assert run is not None, "no one stops it"
        yield run

"""The cluster under test: our application, and one for each of Ray's routings; one of them is asked at a time.

Ray's routers keep the class that they began with, and Serve answers a change of it by starting new replicas: so each
of Ray's routings is an application with replicas of its own, and only our policies share theirs.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console

from loadtests.bench.knowledge import finds_what_it_sent
from loadtests.bench.ray_application import empty_prefix_tree, ray_application_config
from loadtests.bench.routings import RAY_ROUTINGS
from loadtests.client.exchange import CHAT
from serve_app import extras
from serve_app.control.running_application import CHANGE_TIMEOUT_S, RunningApplication
from serve_app.control.serve_api import ServeApi
from serve_app.local import server as local_server
from serve_app.local.cluster import LocalRun, StartError, num_replicas
from serve_app.messages.response_headers import ENGINE_HEADER
from serve_app.settings.schema import Settings

CANARY_PERIOD_S = 86_400.0
"""Once a day: the self-test's probes would evict what a cell has cached."""
ROUTED_IN_A_ROW = 4
RAYS_ROUTER = "LLMRouter"
"""The deployment of Ray's router."""
POLL_S = 0.5
REQUEST_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class CellTarget:
    """Where a cell's requests go."""

    url: str
    model: str
    num_replicas: int


@contextlib.contextmanager
def running(settings: Settings, routings: Sequence[str], console: Console) -> Iterator["BenchCluster"]:
    """The applications that these routings need, ready; all is stopped at the end.

    Raises:
        StartError: the machine has too little memory, a port is taken, or something did not start or knows nothing.
        MissingExtraError: Ray or vLLM is not installed.

    """
    from serve_app.settings import vllm_options

    extras.require("ray", "vllm")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request, once Ray has set up logging
    settings = vllm_options.with_absolute_model_path(settings)
    replicas = settings.replicas.model_copy(
        update={
            "canary_period_s": CANARY_PERIOD_S,
            "warm_joining": False,
            "hand_over": False,
            "explain_headers": "full",  # reports count reasons, and compare replicas
        }
    )
    rays = [RAY_ROUTINGS[name] for name in routings if name in RAY_ROUTINGS]
    local = settings.local.model_copy(update={"num_cpus": settings.local.num_cpus * (1 + len(rays))})
    ops = settings.ops.model_copy(update={"enabled": False})  # it would read our routers only
    settings = settings.model_copy(update={"replicas": replicas, "local": local, "ops": ops})
    beside = [ray_application_config(settings, each) for each in rays]
    with local_server.running(settings, console, threading.Event(), beside=beside) as run:
        assert run is not None, "no one stops it"
        cluster = BenchCluster(run, settings)
        for each in rays:
            cluster.wait_until_served(each.name)
            if each.reads_events:
                cluster.check_knowledge(each.name)
        yield cluster


class BenchCluster:
    """Prepares one routing after the other. This process started it, and is Ray's driver."""

    def __init__(self, run: LocalRun, settings: Settings) -> None:
        self._run = run
        self._settings = settings
        self._api = ServeApi(run.dashboard_url)
        self._ours = RunningApplication(run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url)
        self._policy = self._ours.policy()

    def prepare(self, routing: str) -> CellTarget:
        """Let this routing decide, with all caches empty, and every router's idea of them.

        Raises:
            ApplicationError: something is still running after a minute.

        """
        if routing in RAY_ROUTINGS:
            self._empty(routing)
        else:
            if routing != self._policy:
                self._ours.set_policy(routing)
                self._policy = routing
            self._ours.reset_caches()
        return CellTarget(self._url(routing), self._run.model, num_replicas(self._settings))

    def engine(self) -> str:
        """The engine's name, by a response of ours."""
        response = httpx.post(f"{self._run.url}{CHAT}", json=_first_request(self._run.model), timeout=REQUEST_TIMEOUT_S)
        return str(response.headers.get(ENGINE_HEADER, "vllm"))

    def wait_until_served(self, routing: str) -> None:
        """HAProxy and Ray's routers learn of replicas a moment after Serve calls them running.

        Raises:
            StartError: they do not.

        """
        deadline = time.monotonic() + self._settings.local.start_timeout_s
        url, in_a_row, answer = f"{self._url(routing)}{CHAT}", 0, "none"
        with httpx.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            while time.monotonic() < deadline:
                try:
                    response = client.post(url, json=_first_request(self._run.model))
                    is_served, answer = response.is_success, f"{response.status_code}"
                except httpx.TransportError as error:
                    is_served, answer = False, type(error).__name__
                in_a_row = in_a_row + 1 if is_served else 0
                if in_a_row == ROUTED_IN_A_ROW:
                    return
                if not is_served:
                    time.sleep(POLL_S)
        msg = f"{routing} does not serve at {url}; the last answer: {answer}"
        raise StartError(msg)

    def check_knowledge(self, routing: str) -> None:
        """That KV events arrive is seen by what they are for.

        Raises:
            StartError: they do not.

        """
        with httpx.Client(timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            if not finds_what_it_sent(client, self._url(routing), model=self._run.model):
                raise StartError(
                    f"{routing} does not find a prompt where it sent it before: its KV events do not arrive, or "
                    "llm.engine_kwargs.enable_prompt_tokens_details is not true, without which no one can tell"
                )

    def _url(self, routing: str) -> str:
        if routing in RAY_ROUTINGS:
            return f"http://127.0.0.1:{self._settings.http.port}/{routing}"
        return self._run.url

    def _empty(self, application: str) -> None:
        from ray import serve

        server = self._server(application)
        serve.get_deployment_handle(server, app_name=application).broadcast("reset_prefix_cache").results(
            timeout_s=CHANGE_TIMEOUT_S
        )
        empty_prefix_tree(application, server)

    def _server(self, application: str) -> str:
        """The deployment whose replicas have engines: the one that Ray's LLM builder named."""
        details = self._api.application(application)
        assert details is not None, "deployed at the start"
        return next(str(name) for name in details["deployments"] if name != RAYS_ROUTER)


def _first_request(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}

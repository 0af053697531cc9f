"""`warmroute serve`: from settings to a first routed request on a cluster of our own, with progress."""

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import httpx
from rich.console import Console

from serve_app import extras
from serve_app.control.readiness import described, is_routed, probe
from serve_app.control.serve_api import NoAnswerError, ServeApi
from serve_app.control.serve_config import ROUTER_DEPLOYMENT, serve_config
from serve_app.local.cluster import LocalRun, StartError, check_machine, start_ray, stop
from serve_app.local.haproxy import known_replicas
from serve_app.ops.login import TOKEN_VARIABLE, Login
from serve_app.settings import vllm_options
from serve_app.settings.load import SettingsError
from serve_app.settings.schema import Settings
from serve_app.tenants.key_file import KeyFile, KeyFileError
from serve_app.tenants.operator import operator_headers

POLL_S = 0.5
EXAMPLE_QUESTION = (
    "I have a ticket for the morning train on Friday and would like to travel on Saturday afternoon instead. What does "
    "the change cost, can I keep my seat by the window, and do I get the difference back if the later train is cheaper?"
)
"""Long enough to fill a block of the KV cache."""
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
Answer = TypeVar("Answer")
EXCEPTION_LINE = re.compile(r"^[\w.]*(?:Error|Exception)\w*: ", re.MULTILINE)


class _Stopped(Exception):  # noqa: N818  not an error: the user asked for it
    pass


@contextlib.contextmanager
def running(
    settings: Settings,
    console: Console,
    stopped: threading.Event,
    *,
    beside: Sequence[Mapping[str, Any]] = (),
    config: dict[str, Any] | None = None,
) -> Iterator[LocalRun | None]:
    """The application, from ready until the block ends; None if `stopped` was set before it was ready.

    Args:
        settings: of the application and its cluster.
        console: for progress.
        stopped: may be set by another thread or a signal.
        beside: other applications on the same cluster, each as many replicas, as Serve's config describes them. They
            are waited for until Serve calls them running.
        config: Serve's, in place of the one that is made from the settings.

    Raises:
        StartError: it cannot start, or did not become ready; nothing is left running.
        MissingExtraError: Ray or vLLM is not installed.

    """
    extras.require("ray", "vllm")
    started_at = time.monotonic()
    progress = _StartProgress(console, started_at)
    settings = _checked(settings, num_applications=1 + len(beside))
    config = serve_config(settings) if config is None else config
    config = {**config, "applications": [*config["applications"], *beside]}
    run = None
    try:
        with contextlib.suppress(_Stopped):
            with progress.step("Starting Ray"):
                run = start_ray(settings)
            with progress.step("Deploying"):
                api = ServeApi(run.dashboard_url)
                _patiently(lambda: api.deploy(config), settings, stopped)
            with progress.step("Starting replicas and routers") as report:
                for name in (application["name"] for application in config["applications"]):
                    report_as = partial(_report_of, name, report) if name != settings.name else report
                    _wait_until_running(api, name, settings, stopped, report_as)
            with progress.step("Sending a first request"):
                _wait_until_routed(api, run, settings, stopped)
            if not beside:
                _print_ready(console, run, settings, time.monotonic() - started_at)
        yield None if stopped.is_set() else run
    finally:
        if run is not None:
            with progress.step("Stopping"):
                _shut_down(run)


def _checked(settings: Settings, *, num_applications: int) -> Settings:
    try:
        settings = vllm_options.with_absolute_model_path(settings)
        check_machine(settings, num_applications=num_applications)
        if settings.access.key_file is not None:
            KeyFile.load(settings.access.key_file)
    except (SettingsError, KeyFileError) as error:
        msg = f"the settings cannot be used:\n{error}"
        raise StartError(msg) from error
    return _with_absolute_paths(settings)


def _with_absolute_paths(settings: Settings) -> Settings:
    """The settings with the paths of files as they are from here: Ray's workers run elsewhere."""
    history, key_file = settings.ops.history, settings.access.key_file
    if history is not None:
        ops = settings.ops.model_copy(update={"history": history.resolve()})
        settings = settings.model_copy(update={"ops": ops})
    if key_file is not None:
        access = settings.access.model_copy(update={"key_file": key_file.absolute()})
        settings = settings.model_copy(update={"access": access})
    return settings


def _wait_until_running(
    api: ServeApi,
    name: str,
    settings: Settings,
    stopped: threading.Event,
    report: Any,  # noqa: ANN401
) -> None:
    deadline = time.monotonic() + settings.local.start_timeout_s
    while time.monotonic() < deadline:
        application = _patiently(lambda: api.application(name), settings, stopped)
        if application is not None:
            report(_count_ready(application))
            if application["status"] == "RUNNING":
                return
            if application["status"] in FAILED:
                msg = f"the application {name} did not start: {failure_text(application)}"
                raise StartError(msg)
        if stopped.wait(POLL_S):
            raise _Stopped
    msg = f"the replicas were not ready after {settings.local.start_timeout_s:.0f} s (local.start_timeout_s)"
    raise StartError(msg)


def _patiently(call: Callable[[], Answer], settings: Settings, stopped: threading.Event) -> Answer:
    """On a busy machine the dashboard may take longer to answer than one request waits; both calls may be repeated."""
    deadline = time.monotonic() + settings.local.start_timeout_s
    while True:
        try:
            return call()
        except NoAnswerError:
            if time.monotonic() > deadline:
                raise
        if stopped.wait(POLL_S):
            raise _Stopped


def _report_of(name: str, report: Callable[[str], None], detail: str) -> None:
    report(f"{name}, {detail}")


def _count_ready(application: dict[str, Any]) -> str:
    counts = []
    for name, deployment in application["deployments"].items():
        states = [replica["state"] for replica in deployment["replicas"]]
        kind = "routers" if name == ROUTER_DEPLOYMENT else "replicas"
        counts.append(f"{states.count('RUNNING')}/{len(states)} {kind}")
    return ", ".join(counts)


def failure_text(application: dict[str, Any]) -> str:
    """What Serve says, without the tracebacks: the last exception."""
    messages = [application["message"], *(each["message"] for each in application["deployments"].values())]
    text = "\n".join(messages).strip() or application["status"]
    exceptions = list(EXCEPTION_LINE.finditer(text))
    explained = text[exceptions[-1].end() :] if exceptions else text
    return "\n".join(line for line in explained.strip().splitlines() if "errors.pydantic.dev" not in line)


def _wait_until_routed(api: ServeApi, run: LocalRun, settings: Settings, stopped: threading.Event) -> None:
    """HAProxy and the routers learn of new replicas a moment after Serve calls them running.

    HAProxy asks the routers in turn, so as many answers in a row as there are routers are wanted.
    """
    deadline = time.monotonic() + settings.local.start_timeout_s
    num_routed, missing = 0, ""
    while time.monotonic() < deadline:
        missing = _missing(api, run, settings, stopped)
        num_routed = 0 if missing else num_routed + 1
        if num_routed == settings.routers.replicas_per_node:
            return
        if missing and stopped.wait(POLL_S):
            raise _Stopped
    msg = f"{missing}, after {settings.local.start_timeout_s:.0f} s (local.start_timeout_s)"
    raise StartError(msg)


def _missing(api: ServeApi, run: LocalRun, settings: Settings, stopped: threading.Event) -> str:
    """Why a request may not be routed yet; empty if one was, by a HAProxy that knows every running replica.

    Where answers do not say that they are routed, any answer is taken.
    """
    application = _patiently(lambda: api.application(settings.name), settings, stopped)
    unknown = _running_replicas(application or {"deployments": {}}) - known_replicas(run.run_dir)
    if unknown:
        return f"HAProxy does not know the running replica {', '.join(sorted(unknown))}"
    any_answer = settings.replicas.explain_headers == "off"
    was_routed, answer = _try(f"{run.url}/v1/completions", settings.model_id, any_answer=any_answer)
    return "" if was_routed else f"no routed answer from {run.url}; the last one: {answer}"


def _running_replicas(application: dict[str, Any]) -> set[str]:
    """Their short ids."""
    deployments = application["deployments"].items()
    replicas = [
        each for name, deployment in deployments if name != ROUTER_DEPLOYMENT for each in deployment["replicas"]
    ]
    return {each["replica_id"] for each in replicas if each["state"] == "RUNNING"}


def _try(url: str, model: str, *, any_answer: bool) -> tuple[bool, str]:
    """Whether a request was routed, and what came back.

    On a connection of its own: one that is kept stays with the HAProxy that took it, whatever it knows.
    """
    try:
        with httpx.Client(headers=operator_headers(), timeout=60) as client:
            response = probe(client, url, model)
    except httpx.TransportError as error:
        return False, type(error).__name__
    return is_routed(response, any_answer=any_answer), described(response)


def _shut_down(run: LocalRun) -> None:
    import ray

    ray.shutdown()
    stop(run)


def _ops_line(settings: Settings) -> str:
    if not settings.ops.enabled:
        return ""
    fault = Login(os.environ.get(TOKEN_VARIABLE), is_open=settings.ops.open).fault
    address = f"http://127.0.0.1:{settings.http.port}{settings.ops.route_prefix}/"
    return f"\nOperations: {address if fault is None else fault}"


def _headers_line(settings: Settings) -> str:
    is_full = settings.replicas.explain_headers == "full"
    return "the x-warmroute- headers say where it went and why, and\n" if is_full else ""


def _print_ready(console: Console, run: LocalRun, settings: Settings, seconds: float) -> None:
    messages = [{"role": "user", "content": EXAMPLE_QUESTION}]
    body = json.dumps({"model": settings.model_id, "max_tokens": 16, "messages": messages})
    console.print(
        f"""
[bold green]Warmroute is ready[/bold green] after {seconds:.0f} s: {run.url}/v1  (model: {settings.model_id}){run.note}
Ray dashboard: {run.dashboard_url}{_ops_line(settings)}

Try it from another terminal, twice: {_headers_line(settings)}the second time the answer's usage reports cached tokens.

  curl -i {run.url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'

Ctrl-C here, or `make stop` elsewhere, stops everything.
"""
    )


class _StartProgress:
    """A line for each finished step; while a step runs, a spinner where there is a terminal."""

    def __init__(self, console: Console, started_at: float) -> None:
        self._console = console
        self._started_at = started_at

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Any]:
        last = ""

        def report(detail: str) -> None:
            nonlocal last
            if detail != last:
                last = detail
                status.update(f"{title}: {detail}")
                self._print(f"{title}: {detail}")

        with self._console.status(title) as status:
            self._print(title)
            yield report

    def _print(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started_at:6.1f} s[/dim]  {text}")

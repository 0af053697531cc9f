"""What the user reads when the application does not start, and when it has."""

import asyncio
import threading
from collections.abc import Iterator
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from serve_app.control.serve_api import NoAnswerError, ServeApiError
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from serve_app.local import server as local_server
from serve_app.local.cluster import StartError
from serve_app.local.server import failure_text
from serve_app.messages.response_headers import REQUEST_ID_HEADER
from serve_app.ops.login import TOKEN_VARIABLE
from serve_app.settings.schema import ExplainHeaders, LocalSettings, OpsSettings, ReplicaSettings, Settings
from tests.serve_app.edge.running import Loop, Request, Server, response


def application(message: str, *deployment_messages: str) -> dict[str, object]:
    """Serve's details, as far as they are read."""
    return {
        "status": "DEPLOY_FAILED",
        "message": message,
        "deployments": {str(number): {"message": text} for number, text in enumerate(deployment_messages)},
    }


TRACEBACK = """The replica failed to start:
Traceback (most recent call last):
  File "x.py", line 1, in f
ray.exceptions.RayTaskError: wrapped
RuntimeError: Failed to create it: 1 validation error
max_model_len
  Input should be a valid integer
    For further information visit https://errors.pydantic.dev/2.14/v/int_parsing"""


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (application("Traceback ...\nserve_app.settings.SettingsError:   llm.x = 1: no"), "llm.x = 1: no"),
        (
            application("", TRACEBACK),
            "Failed to create it: 1 validation error\nmax_model_len\n  Input should be a valid integer",
        ),
        (application("No resources for a replica"), "No resources for a replica"),
        (application("", ""), "DEPLOY_FAILED"),
    ],
)
def test_the_last_exception_is_what_is_told(details: dict[str, object], expected: str) -> None:
    """Without tracebacks and links."""
    assert failure_text(details) == expected


class Dashboard:
    """Answers after some silence."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)

    def call(self) -> str:
        """One request."""
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


def ask(dashboard: Dashboard, *, timeout_s: float = 60) -> str:
    """As `serve` does while it starts."""
    settings = Settings(llm={}, local=LocalSettings(start_timeout_s=timeout_s))
    return local_server._patiently(dashboard.call, settings, threading.Event())


def test_where_the_operators_page_is_or_why_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said when all is ready. A token opens it as well as the setting does."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    closed, opened, without = (
        Settings(llm={}, ops=ops) for ops in (OpsSettings(), OpsSettings(open=True), OpsSettings(enabled=False))
    )
    assert TOKEN_VARIABLE in local_server._ops_line(closed)
    assert "ops.open: true" in local_server._ops_line(closed)
    assert local_server._ops_line(opened) == "\nOperations: http://127.0.0.1:8000/ops/"
    assert local_server._ops_line(without) == ""
    monkeypatch.setenv(TOKEN_VARIABLE, "0123456789abcdef" * 2)
    assert local_server._ops_line(closed) == local_server._ops_line(opened)


def test_a_dashboard_too_busy_to_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the time for starting is over; what it refuses, it would refuse again."""
    monkeypatch.setattr(local_server, "POLL_S", 0.001)
    busy = NoAnswerError("no answer")
    assert ask(Dashboard(busy, busy)) == "answer"
    with pytest.raises(NoAnswerError):
        ask(Dashboard(*[busy] * 10**6), timeout_s=0.01)
    with pytest.raises(ServeApiError, match="refused"):
        ask(Dashboard(ServeApiError("refused")))


@pytest.mark.parametrize(("mode", "is_said"), [("off", False), ("brief", False), ("full", True)])
def test_headers_are_pointed_at_where_they_say_something(mode: ExplainHeaders, is_said: bool) -> None:
    """What is printed when all is ready."""
    settings = Settings(
        llm={"model_loading_config": {"model_id": "demo"}}, replicas=ReplicaSettings(explain_headers=mode)
    )
    run: Any = SimpleNamespace(url="http://127.0.0.1:8000", dashboard_url="http://127.0.0.1:8265", note="")
    console = Console(file=StringIO(), width=140)
    with console.capture() as printed:
        local_server._print_ready(console, run, settings, 1.0)
    assert ("x-warmroute- headers say where it went" in printed.get()) is is_said
    assert "the second time the answer's usage" in " ".join(printed.get().split())


class Node:
    """Two replicas and a router run, a third replica starts. At each look HAProxy knows what comes next in `known`."""

    def __init__(self, loop: Loop, *known: set[str], headers: str = f"{REQUEST_ID_HEADER}: f00d\r\n") -> None:
        self.known = list(known)
        self.known_at_connection: dict[int, set[str]] = {}
        self._answer = response(b"{}", headers=headers)
        port = loop.serve(Server(self._handle)).port
        self.run: Any = SimpleNamespace(url=f"http://127.0.0.1:{port}", run_dir="")

    async def _handle(self, _request: Request, writer: asyncio.StreamWriter) -> None:
        self.known_at_connection[writer.get_extra_info("peername")[1]] = self.known[0]
        writer.write(self._answer)

    def application(self, _name: str) -> dict[str, Any]:
        """Serve's details, as far as they are read."""
        replicas = [{"replica_id": name, "state": "RUNNING"} for name in "ab"]
        replicas.append({"replica_id": "c", "state": "STARTING"})
        routers = [{"replica_id": "r", "state": "RUNNING"}]
        return {"deployments": {"LLMReplica:demo": {"replicas": replicas}, ROUTER_DEPLOYMENT: {"replicas": routers}}}

    def wait_until_routed(self, monkeypatch: pytest.MonkeyPatch, *, timeout_s: float = 60) -> None:
        """As `serve` does at its end."""
        monkeypatch.setattr(local_server, "POLL_S", 0.001)
        monkeypatch.setattr(local_server, "known_replicas", self._look)
        settings = Settings(
            llm={"model_loading_config": {"model_id": "demo"}}, local=LocalSettings(start_timeout_s=timeout_s)
        )
        api: Any = self
        local_server._wait_until_routed(api, self.run, settings, threading.Event())

    def _look(self, _run_dir: str) -> set[str]:
        if len(self.known) > 1:
            self.known.pop(0)
        return self.known[0]


@pytest.fixture
def loop() -> Iterator[Loop]:
    """For the node's proxy."""
    loop = Loop()
    yield loop
    loop.stop()


def test_ready_is_said_when_haproxy_knows_every_running_replica(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an answer for each router, on connections of their own: a kept one stays with the HAProxy that took it."""
    node = Node(loop, set(), set(), {"a"}, {"a", "b"})
    node.wait_until_routed(monkeypatch)
    assert list(node.known_at_connection.values()) == [{"a", "b"}] * 2


def test_a_replica_that_haproxy_never_learns_of_is_named(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though what is asked is routed to another."""
    node = Node(loop, {"a"})
    with pytest.raises(StartError, match=r"HAProxy does not know the running replica b, after 0 s \(local\.start_time"):
        node.wait_until_routed(monkeypatch, timeout_s=0.05)


def test_an_answer_that_is_never_routed_is_shown(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one."""
    node = Node(loop, {"a", "b"}, headers="")
    with pytest.raises(StartError, match=rf"no routed answer from {node.run.url}; the last one: 200, .*: none, after"):
        node.wait_until_routed(monkeypatch, timeout_s=0.05)

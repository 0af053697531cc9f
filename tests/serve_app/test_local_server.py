"""What the user reads when the application does not start, and when it has."""

import threading
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from serve_app import local_server
from serve_app.local_server import failure_text
from serve_app.ops.login import TOKEN_VARIABLE
from serve_app.serve_api import NoAnswerError, ServeApiError
from serve_app.settings import ExplainHeaders, LocalSettings, OpsSettings, ReplicaSettings, Settings


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

"""What the user reads when the application does not start."""

import threading

import pytest

from serve_app import local_server
from serve_app.local_server import failure_text
from serve_app.serve_api import NoAnswerError, ServeApiError
from serve_app.settings import LocalSettings, Settings


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


def test_a_dashboard_too_busy_to_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the time for starting is over; what it refuses, it would refuse again."""
    monkeypatch.setattr(local_server, "POLL_S", 0.001)
    busy = NoAnswerError("no answer")
    assert ask(Dashboard(busy, busy)) == "answer"
    with pytest.raises(NoAnswerError):
        ask(Dashboard(*[busy] * 10**6), timeout_s=0.01)
    with pytest.raises(ServeApiError, match="refused"):
        ask(Dashboard(ServeApiError("refused")))

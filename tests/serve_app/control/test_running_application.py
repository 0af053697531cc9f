"""Calls to routers, some of which Serve does not list at the moment."""

from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.control import running_application
from serve_app.control.running_application import ApplicationError, RunningApplication
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from tests.snapshots import router


class Routers:
    """Two, of which the second is listed only from the `listed_from`th call on."""

    def __init__(self, listed_from: int) -> None:
        self.calls: list[str] = []
        self._listed_from = listed_from

    def broadcast(self, method: str) -> Any:
        """To those that are listed."""
        self.calls.append(method)
        answers = [router("a").as_plain()] * (1 + (len(self.calls) >= self._listed_from))
        return SimpleNamespace(results=lambda timeout_s: answers)  # noqa: ARG005  as Serve names it


class Replicas:
    """Empty their caches."""

    def broadcast(self, method: str) -> Any:
        """To all of them."""
        assert method == "reset_prefix_cache"
        return SimpleNamespace(results=lambda timeout_s: [])  # noqa: ARG005


def make_application(routers: Routers, *states: str) -> RunningApplication:
    """Of whose routers Serve says that."""
    application = RunningApplication.__new__(RunningApplication)
    details = {"deployments": {ROUTER_DEPLOYMENT: {"replicas": [{"state": state} for state in states]}}}
    application._name = "app"
    application._api = SimpleNamespace(application=lambda _: details)  # type: ignore[assignment]
    application._routers, application._replicas = routers, Replicas()
    return application


def test_every_router_hears_that_the_caches_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes new settings is called again until it has heard; it would go on believing."""
    monkeypatch.setattr(running_application, "POLL_S", 0)
    routers = Routers(listed_from=4)
    make_application(routers, "RUNNING", "UPDATING", "STOPPING").reset_caches()
    assert routers.calls == ["snapshot"] * 4 + ["on_caches_reset"]


def test_one_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured then."""
    monkeypatch.setattr(running_application, "POLL_S", 0)
    monkeypatch.setattr(running_application, "CHANGE_TIMEOUT_S", 0.01)
    with pytest.raises(ApplicationError, match="the routers are not all there for snapshot"):
        make_application(Routers(listed_from=10**9), "RUNNING", "RUNNING").wait_until_idle()

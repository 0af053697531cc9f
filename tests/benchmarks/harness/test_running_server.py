"""What a measurement needs of the running server: headers that say enough, and counters that are exported late."""

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.running_server import require_full_headers, settled
from serve_app.control.serve_config import application_config
from serve_app.settings.schema import ExplainHeaders, ReplicaSettings, Settings


class FakeClock:
    """Time passes by sleeping only."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """At once."""
        self.now_s += seconds


async def settle(values: Iterator[int], clock: FakeClock, *, timeout_s: float = 100) -> int:
    """With the quiet time of the tests."""

    async def read() -> int:
        return next(values)

    return await settled(read, quiet_s=5, timeout_s=timeout_s, clock=clock, sleep=clock.sleep)


async def test_a_value_counts_once_it_has_stood_still() -> None:
    """A change starts the quiet time anew."""
    clock = FakeClock()
    assert await settle(itertools.chain([1, 1, 1, 2, 2, 3], itertools.repeat(4)), clock) == 4
    assert clock() == 6 + 5


async def test_what_never_stands_still_is_an_error() -> None:
    """Somebody else uses the server."""
    with pytest.raises(MeasurementError, match="still change after 20 s"):
        await settle(itertools.count(), FakeClock(), timeout_s=20)


def deployed(mode: ExplainHeaders) -> Any:
    """Serve's API, of an application with these headers."""
    settings = Settings(
        llm={"model_loading_config": {"model_id": "demo"}}, replicas=ReplicaSettings(explain_headers=mode)
    )
    details = {"deployed_app_config": application_config(settings)}
    return SimpleNamespace(application=lambda _: details)


@pytest.mark.parametrize("mode", ["off", "brief"])
def test_figures_that_need_headers_are_not_made_without_them(mode: ExplainHeaders) -> None:
    """They would be zeros."""
    with pytest.raises(
        MeasurementError, match=f"not available: with replicas.explain_headers: {mode}, .* set it to full"
    ):
        require_full_headers(deployed(mode), "warmroute")


def test_full_headers_are_enough() -> None:
    """Nothing is asked of the server itself."""
    require_full_headers(deployed("full"), "warmroute")

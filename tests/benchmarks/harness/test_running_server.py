"""What a measurement needs of the running server: headers that say enough."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.running_server import require_full_headers
from serve_app.control.serve_config import application_config
from serve_app.settings.schema import ExplainHeaders, ReplicaSettings, Settings


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

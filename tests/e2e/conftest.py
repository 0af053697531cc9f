"""Two real vLLM replicas behind HAProxy and two routers, started once by the command that users run."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.control.running_application import RunningApplication
from serve_app.control.serve_api import ServeApi
from serve_app.local.cluster import LocalRun
from serve_app.local.haproxy import replica_urls
from tests.conftest import Require
from tests.servers import serving, shipped_settings

TENANT = "acme"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the replicas."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server is started from: its state file is found there, and no other run's."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def run(folder: Path, require: Require) -> Iterator[LocalRun]:
    """The server."""
    require(importlib.util.find_spec("vllm") is not None, "vLLM: install with `make install`")
    with serving(demo_settings(), folder) as run:
        yield run


def demo_settings() -> dict[str, Any]:
    """The shipped demo, with stored responses, and a tenant."""
    settings = shipped_settings("cpu-demo.yaml")
    # Once, at the start: later it would evict something while the cache is compared with a simulated one.
    settings["replicas"] |= {"canary_period_s": 86_400, "log_requests": True, "tenants": [TENANT]}
    settings["llm"]["runtime_env"]["env_vars"]["VLLM_ENABLE_RESPONSES_API_STORE"] = "1"
    return settings


@pytest.fixture(scope="session")
def api(run: LocalRun) -> ServeApi:
    """Serve's REST API."""
    return ServeApi(run.dashboard_url)


@pytest.fixture(scope="session")
def application(run: LocalRun) -> Iterator[RunningApplication]:
    """The application, over Ray."""
    with RunningApplication(
        run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url
    ) as application:
        yield application


@pytest.fixture(scope="session")
def client(run: LocalRun) -> Iterator[httpx.Client]:
    """Through the whole path."""
    with httpx.Client(base_url=run.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def replica_client(run: LocalRun) -> Iterator[httpx.Client]:
    """Straight to one replica's own port, which HAProxy's configuration names: what vLLM itself answers."""
    url = next(iter(replica_urls(run.run_dir).values()))
    with httpx.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def run_model(run: LocalRun) -> str:
    """The model's name for clients."""
    return run.model

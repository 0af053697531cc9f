"""Two real vLLM replicas behind HAProxy and two routers, started once by the command that users run."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from serve_app.demo_model import build_demo_model
from serve_app.local_cluster import HAPROXY_PORTS, RUN_VARIABLE, Run
from serve_app.replica_urls import replica_urls
from serve_app.running_application import RunningApplication
from serve_app.serve_api import ServeApi
from tests.conftest import Require

ROOT = Path(__file__).parent.parent.parent
DEMO_MODEL = ROOT / ".warmroute" / "demo-model"
TENANT = "acme"
START_TIMEOUT_S = 900
STOP_TIMEOUT_S = 90


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
def run(folder: Path, require: Require) -> Iterator[Run]:
    """The server, ready; stopped with Ctrl-C at the end, and checked to have left nothing."""
    require(importlib.util.find_spec("vllm") is not None, "vLLM: install with `make install`")
    config = folder / "settings.yaml"
    build_demo_model(DEMO_MODEL)
    config.write_text(yaml.safe_dump(demo_settings()))
    log = folder / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen([*COMMAND, "serve", config], cwd=folder, stdout=output, stderr=output)
    try:
        wait_until_ready(process, log)
        run = Run.load(folder / ".warmroute" / "run.json")
        assert run is not None
        yield run
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_TIMEOUT_S)
    assert_nothing_left(run)


COMMAND = [sys.executable, "-m", "serve_app.cli"]


def demo_settings() -> dict[str, Any]:
    """The shipped demo, with the demo model wherever the tests run, stored responses, and a tenant."""
    settings: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "cpu-demo.yaml").read_text())
    settings["llm"]["model_loading_config"]["model_source"] = str(DEMO_MODEL)
    # Once, at the start: later it would evict something while the cache is compared with a simulated one.
    settings["replicas"] = {"canary_period_s": 86_400, "log_requests": True, "tenants": [TENANT]}
    settings["llm"]["runtime_env"]["env_vars"]["VLLM_ENABLE_RESPONSES_API_STORE"] = "1"
    return settings


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the command says so itself."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while "Warmroute is ready" not in log.read_text():
        assert process.poll() is None, f"`warmroute serve` ended early:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"not ready after {START_TIMEOUT_S} s:\n{log.read_text()}"
        time.sleep(0.5)


def assert_nothing_left(run: Run) -> None:
    """No process of the run, no port of ours."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_VARIABLE) == run.run_id and process.pid != os.getpid():
                left.append(process.name())
        except psutil.Error:
            continue
    assert not left, f"still running: {left}"
    for port in (8000, 8265, *HAPROXY_PORTS):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is still taken"


@pytest.fixture(scope="session")
def api(run: Run) -> ServeApi:
    """Serve's REST API."""
    return ServeApi(run.dashboard_url)


@pytest.fixture(scope="session")
def application(run: Run) -> Iterator[RunningApplication]:
    """The application, over Ray."""
    with RunningApplication(
        run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url
    ) as application:
        yield application


@pytest.fixture(scope="session")
def client(run: Run) -> Iterator[httpx.Client]:
    """Through the whole path."""
    with httpx.Client(base_url=run.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def replica_client(run: Run) -> Iterator[httpx.Client]:
    """Straight to one replica's own port, which HAProxy's configuration names: what vLLM itself answers."""
    url = next(iter(replica_urls(run.run_dir).values()))
    with httpx.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def run_model(run: Run) -> str:
    """The model's name for clients."""
    return run.model

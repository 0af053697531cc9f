"""A server, started by the command that users run."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from serve_app.demo.model import build_demo_model
from serve_app.local.cluster import HAPROXY_PORTS, RUN_VARIABLE, LocalRun

ROOT = Path(__file__).parent.parent
DEMO_MODEL = ROOT / ".warmroute" / "demo-model"
COMMAND = [sys.executable, "-m", "warmroute"]
START_TIMEOUT_S = 900
STOP_TIMEOUT_S = 90


@contextlib.contextmanager
def serving(settings: Mapping[str, Any], folder: Path) -> Iterator[LocalRun]:
    """Ready; stopped with Ctrl-C at the end, and checked to have left nothing.

    It is started from the folder: its state file is found there, and no other run's.
    """
    config = folder / "settings.yaml"
    build_demo_model(DEMO_MODEL)
    config.write_text(yaml.safe_dump(dict(settings)))
    log = folder / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen([*COMMAND, "serve", config], cwd=folder, stdout=output, stderr=output)
    try:
        _wait_until_ready(process, log)
        run = LocalRun.load(folder / ".warmroute" / "run.json")
        assert run is not None
        yield run
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_TIMEOUT_S)
    _assert_nothing_left(run)


def shipped_settings(name: str) -> dict[str, Any]:
    """Of `configs/`, with the demo model wherever the tests run."""
    settings: dict[str, Any] = yaml.safe_load((ROOT / "configs" / name).read_text())
    settings["llm"]["model_loading_config"]["model_source"] = str(DEMO_MODEL)
    return settings


def free_port() -> int:
    """Of the loopback; nobody's, a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the command says so itself."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while "Warmroute is ready" not in log.read_text():
        assert process.poll() is None, f"`warmroute serve` ended early:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"not ready after {START_TIMEOUT_S} s:\n{log.read_text()}"
        time.sleep(0.5)


def _assert_nothing_left(run: LocalRun) -> None:
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

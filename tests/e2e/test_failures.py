"""Processes that die under load. The experiments are the load tests' own, made small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.local.cluster import LocalRun
from tests.servers import ROOT

TIMEOUT_S = 840


def run_experiment(folder: Path, *arguments: str) -> str:
    """What it prints; it fails when anything went as it should not."""
    command = [sys.executable, "-m", "benchmarks", "failures", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_haproxy_is_configured_to_send_requests_elsewhere_and_to_let_streams_end(run: LocalRun) -> None:
    """By the environment that `serve` sets."""
    haproxy_config = next(Path(run.run_dir).rglob("haproxy.cfg")).read_text()
    assert "retry-on conn-failure 503" in haproxy_config
    assert "hard-stop-after 3600s" in haproxy_config
    assert f"tune.bufsize {2 * 2**20}" in haproxy_config


@pytest.mark.timeout(TIMEOUT_S + 60)
def test_an_engine_dies_under_streams(folder: Path, run: LocalRun) -> None:
    """Only its own streams end early, no other request fails, and its successor owns the same keys.

    The other replica's streams outlive two reloads of HAProxy, and the 120 s after which Ray Serve would cut them.
    """
    assert run.url
    printed = run_experiment(folder, "engine", "--streams", "8", "--tokens", "5000", "--seconds", "120")
    assert "not eligible any more (not_serving)" in printed


@pytest.mark.timeout(TIMEOUT_S + 60)
def test_routers_die_under_load(folder: Path, run: LocalRun) -> None:
    """No request fails: HAProxy asks the other one, and where there is none, it balances by itself."""
    assert run.url
    printed = run_experiment(folder, "router", "--both", "--clients", "8", "--seconds", "20", "--wait", "5")
    assert "served without a router's decision" in printed

"""A replica of the real server that deviates: it is named within a canary's period, and clients notice nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from tests.servers import DEMO_MODEL, ROOT


def test_every_replica_is_ok(application: RunningApplication) -> None:
    """For every router; and its canary is in the engine's totals, told apart."""
    for router in application.routers():
        for replica in router.replicas.values():
            assert replica.parity == "ok"
            assert replica.engine is not None
            assert 0 < replica.engine.own_tokens < replica.engine.prompt_tokens


@pytest.mark.timeout(600)
def test_a_replica_with_another_chat_template_is_noticed(folder: Path, run: LocalRun) -> None:
    """The experiment of benchmarks.live.parity_alarms: verdict, alarm in time, no request lost, and then well again."""
    assert run.url
    command = [sys.executable, "-m", "benchmarks", "parity_alarms", "run", "template", "--model", str(DEMO_MODEL)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=560, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert not (DEMO_MODEL / "chat_template.jinja").exists()

"""The simulator beside a real engine: does it reuse exactly what vLLM reuses?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.local.cluster import LocalRun
from tests.servers import ROOT


@pytest.mark.timeout(600)
def test_the_simulator_reuses_what_a_real_engine_does(folder: Path, run: LocalRun) -> None:
    """320 requests, one after the other, from an empty cache on, most of it evicted on the way: equal for each."""
    assert run.url
    command = [sys.executable, "-m", "benchmarks", "cache_parity", "--requests", "320", "--seed", "7"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "PASS" in result.stdout

"""The CPU overlay's applications on this machine, exactly as its manifest carries them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from serve_app.demo.model import build_demo_model
from tests.conftest import Require
from tests.k8s.conftest import K8S, ROOT, Build

pytestmark = [pytest.mark.own_process, pytest.mark.timeout(900)]
MODEL = ROOT / ".warmroute" / "demo-model"


@pytest.fixture
def model_of_the_image(require: Require) -> Iterator[None]:
    """Where the image has it."""
    settings = yaml.safe_load((K8S / "overlays" / "cpu-demo" / "settings.yaml").read_text())
    place = Path(settings["llm"]["model_loading_config"]["model_source"])
    require(place.exists() or os.access(place.parent.parent, os.W_OK), f"the right to make {place}")
    if place.exists():
        yield
        return
    build_demo_model(MODEL)
    made = not place.parent.exists()
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(MODEL)
    yield
    place.unlink()
    if made:
        place.parent.rmdir()


@pytest.mark.usefixtures("model_of_the_image")
def test_the_cpu_overlay_serves(build: Build, tmp_path: Path) -> None:
    """Ready as the probe sees it, routed, cached the second time, and counted."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "ray_service"],
        input=yaml.safe_dump_all(build("overlays/cpu-demo")),
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("warmroute ready: ready") == 2
    first, second = (line for line in ended.stdout.splitlines() if line.startswith("/v1/chat/completions: 200"))
    assert cached_tokens(second) > cached_tokens(first)
    assert "x-warmroute-request-id: " in second
    assert "x-warmroute-request-id: none" not in second
    assert "2 of them these" in ended.stdout


def cached_tokens(line: str) -> int:
    """By the answer's usage."""
    return int(line.partition("; ")[2].split()[0])

"""KV events on a whole server: engines that empty their caches without a word to the routers.

Engines are simulated ones, whose scheduler, cache and events are vLLM's own. `make test` runs it by itself, because a
machine has room for one server at a time.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import serving, shipped_settings

pytestmark = [pytest.mark.own_process, pytest.mark.timeout(900)]
WAIT_S = 1.0


def test_routers_know_of_it_within_a_second(tmp_path: Path) -> None:
    """Each prediction afterwards is right, of what is computed anew, too."""
    settings = shipped_settings("simulated.yaml")
    settings["llm"]["deployment_config"]["num_replicas"] = 2
    settings["replicas"] |= {"kv_events": True}
    found = tmp_path / "found.json"
    options = ["--prompts", "40", "--requests", "60", "--wait-s", str(WAIT_S), "--json", str(found)]
    with serving(settings, tmp_path):
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks", "stale_beliefs", *options],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    measured = json.loads(found.read_text())
    assert measured["knowledge"] == ["kv_events"]
    answers = [(each["believed"], each["cached"]) for each in measured["answers"]]
    assert len(answers) == 60
    assert all(believed == cached for believed, cached in answers)
    assert any(cached for _, cached in answers), "nothing was used again"

"""`warmroute doctor` on the running server: all is well, and what is not is named."""

import json
import subprocess
from pathlib import Path

import pytest

from serve_app.doctor.finding import Check
from serve_app.local.cluster import LocalRun
from tests.servers import COMMAND


def doctor(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command, run where the server was started."""
    command = [*COMMAND, "doctor", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=140, check=False)


def test_a_healthy_server_passes_every_check(folder: Path, run: LocalRun) -> None:
    """With the facts found; from this folder, and with every option given."""
    named = ["--dashboard", run.dashboard_url, "--url", run.url, "--ray-address", run.ray_address]
    for options in ([], [*named, "--application", run.application]):
        result = doctor(folder, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        lines = result.stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["ok"] * len(Check), result.stdout
        for expected in (
            "is RUNNING",
            "vllm 0.29.0",
            "HAPROXY_HARD_STOP_AFTER_S=3600",
            "http 8000, metrics 9101, stats 8404",
            "2 of 2 run, ranks 0 to 1",
            "2 on each node with a proxy; policy prefix_affinity",
            "answered 200 in",
            "and of the request's end",
        ):
            assert expected in result.stdout


@pytest.mark.parametrize(
    ("options", "check", "text"),
    [
        (["--application", "nope"], Check.APPLICATION, "no application 'nope'"),
        (["--url", "http://127.0.0.1:9"], Check.PORTS, "no one accepts connections at http://127.0.0.1:9"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, run: LocalRun, options: list[str], check: Check, text: str) -> None:
    """Exactly one check fails, those that need it wait, and the rest is examined all the same."""
    assert run.url
    result = doctor(folder, "--json", *options)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    findings = json.loads(result.stdout)
    (failure,) = [finding for finding in findings if finding["status"] == "failed"]
    assert failure["check"] == check
    assert text in failure["text"]
    assert failure["remedy"]
    assert {finding["status"] for finding in findings} == {"failed", "skipped", "ok"}

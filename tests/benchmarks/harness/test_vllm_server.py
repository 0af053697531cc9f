"""Starting and stopping a server; programs of our own stand in for vLLM."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import httpx
import pytest

from benchmarks.harness import vllm_server
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.vllm_server import ENTRY_MODULES, command, running

SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

HTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
"""


def start_instead(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of ours, that gets the port."""
    monkeypatch.setattr(vllm_server, "command", lambda _, *, port: [sys.executable, "-c", code, str(port)])
    monkeypatch.setattr(vllm_server, "POLL_S", 0.1)


def test_the_server_is_stopped_when_it_is_not_needed_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers until then."""
    start_instead(SERVER, monkeypatch)
    with running({}, variables={}, log=tmp_path / "log") as url:
        assert httpx.get(f"{url}/health").is_success
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/health")


def test_a_server_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its exit code, where its log is, and how that ends."""
    start_instead("import os, sys; print('begin\\n' * 20 + os.environ['WHY']); sys.exit(3)", monkeypatch)
    with (
        pytest.raises(MeasurementError, match=r"(?s)exit code 3: see .*log, which ends so:\nbegin.*too little memory"),
        running({}, variables={"WHY": "too little memory"}, log=tmp_path / "log"),
    ):
        pass


def test_a_server_that_never_becomes_ready_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped then."""
    start_instead("import time; time.sleep(600)", monkeypatch)
    monkeypatch.setattr(vllm_server, "START_TIMEOUT_S", 0.0)
    with pytest.raises(MeasurementError, match="not ready after 0 s"), running({}, variables={}, log=tmp_path / "log"):
        pass


@pytest.mark.parametrize("present", [[ENTRY_MODULES[0], ENTRY_MODULES[1]], [ENTRY_MODULES[1]]])
def test_the_newest_entry_of_the_installed_vllm_is_started(
    present: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found without importing it."""
    for name in present:
        path = (tmp_path / name.replace(".", "/")).with_suffix(".py")
        path.parent.mkdir(parents=True)
        path.touch()
    spec = ModuleSpec("vllm", None, origin=str(tmp_path / "vllm" / "__init__.py"))
    monkeypatch.setattr(vllm_server, "find_spec", lambda _: spec)
    assert command({}, port=1)[1:3] == ["-m", present[0]]


def test_options_become_flags() -> None:
    """A switch has no value."""
    flags = command({"max_model_len": 64, "enforce_eager": True}, port=7)[3:]
    assert flags == ["--max-model-len", "64", "--enforce-eager", "--host", "127.0.0.1", "--port", "7"]

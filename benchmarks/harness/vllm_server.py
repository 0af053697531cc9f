"""vLLM's own server, without Ray and without a router, in a process of its own on the loopback interface.

Works with any vLLM that has this server, also one that is not made for our Ray.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from benchmarks.harness.errors import MeasurementError

ENTRY_MODULES = ("vllm.entrypoints.launchers.api_server.entry", "vllm.entrypoints.openai.api_server")
"""The entry of vLLM 0.29, and that of earlier releases; 0.29 has the second one, too, and warns. `vllm serve` does not
serve: it asks for the version of a package of that name, and the CPU build has another."""
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 60.0
POLL_S = 1.0
NUM_LOG_LINES = 15


@contextlib.contextmanager
def running(options: Mapping[str, Any], *, variables: Mapping[str, str], log: Path) -> Iterator[str]:
    """The server's URL, once it is ready; the server is stopped afterwards.

    Args:
        options: vLLM's options by name; True for a switch, a dictionary for one that reads JSON.
        variables: of its environment, which has ours besides.
        log: the file that it writes to.

    Raises:
        MeasurementError: it did not become ready; the end of its log is in the message.

    """
    port = _free_port()
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            command(options, port=port),
            env=os.environ | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, url, log)
            yield url
        finally:
            _stop(process)


def options_of(llm: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's options for a replica with these `llm` settings."""
    loading = llm["model_loading_config"]
    return {"model": loading["model_source"], "served_model_name": loading["model_id"], **llm["engine_kwargs"]}


def variables_of(llm: Mapping[str, Any]) -> dict[str, str]:
    """The variables of its environment, by the same settings."""
    return dict(llm.get("runtime_env", {}).get("env_vars", {}))


def command(options: Mapping[str, Any], *, port: int) -> list[str]:
    """How the server is started."""
    arguments = []
    for name, value in {**options, "host": "127.0.0.1", "port": port}.items():
        flag = f"--{name.replace('_', '-')}"
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        arguments += [flag] if value is True else [flag, text]
    return [sys.executable, "-m", _entry_module(), *arguments]


def _entry_module() -> str:
    """Found by its file, for vLLM takes seconds to import."""
    package = find_spec("vllm")
    folder = Path() if package is None or package.origin is None else Path(package.origin).parents[1]
    is_there = [(folder / name.replace(".", "/")).with_suffix(".py").exists() for name in ENTRY_MODULES]
    return ENTRY_MODULES[is_there.index(True)] if any(is_there) else ENTRY_MODULES[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise MeasurementError(
                f"the engine ended while starting, with exit code {process.returncode}: see {log}, "
                f"which ends so:\n{_end_of(log)}"
            )
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=POLL_S, trust_env=False).is_success:
                return
        time.sleep(POLL_S)
    raise MeasurementError(
        f"the engine was not ready after {START_TIMEOUT_S:.0f} s: see {log}, which ends so:\n{_end_of(log)}"
    )


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-NUM_LOG_LINES:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server, and its engine process if that is left."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session, so only what we started
        process.wait()

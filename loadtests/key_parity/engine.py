"""VLLM's own server, without Ray and without a router, as the settings describe it; in a process of its own."""

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

import httpx
import yaml

from loadtests.key_parity.models import Model
from loadtests.live import LiveError

DEMO_SETTINGS = Path(__file__).parents[2] / "configs" / "cpu-demo.yaml"
MAX_MODEL_LEN = 32_768
MODEL_NAME = "demo"
KV_CACHE_GIB = 2
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 60.0
POLL_S = 1.0


def llm_settings(model: Model) -> dict[str, Any]:
    """The demo's, for this model, with more room: prompts are long, and none shall be evicted."""
    llm: dict[str, Any] = yaml.safe_load(DEMO_SETTINGS.read_text())["llm"]
    llm["model_loading_config"] = {"model_id": MODEL_NAME, "model_source": str(model.folder.resolve())}
    del llm["engine_kwargs"]["num_gpu_blocks_override"]
    llm["engine_kwargs"] |= {"max_model_len": MAX_MODEL_LEN, "enable_prefix_caching": True, **model.engine_kwargs}
    llm["runtime_env"]["env_vars"]["VLLM_CPU_KVCACHE_SPACE"] = str(KV_CACHE_GIB)
    return llm


@contextlib.contextmanager
def running_engine(llm: Mapping[str, Any], *, log: Path) -> Iterator[str]:
    """The server's URL, once it is ready; the server is stopped afterwards.

    Raises:
        LiveError: it did not become ready.

    """
    port = _free_port()
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            command(llm, port=port),
            env=os.environ | llm["runtime_env"]["env_vars"],
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


def command(llm: Mapping[str, Any], *, port: int) -> list[str]:
    """How the server is started, with the engine options that the settings give."""
    loading = llm["model_loading_config"]
    options = {
        "model": loading["model_source"],
        "served_model_name": loading["model_id"],
        "host": "127.0.0.1",
        "port": port,
        **llm["engine_kwargs"],
    }
    arguments = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        arguments += [flag] if value is True else [flag, str(value)]
    # Not `vllm serve`, which asks for the version of a package of that name, and the CPU build has another.
    return [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", *arguments]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LiveError(f"the engine ended while starting, with exit code {process.returncode}: see {log}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=POLL_S, trust_env=False).is_success:
                return
        time.sleep(POLL_S)
    raise LiveError(f"the engine was not ready after {START_TIMEOUT_S:.0f} s: see {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The server, and its engine process if that is left."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session, so only what we started
        process.wait()

"""The command line, with engines of our own behind it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loadtests.gpu import __main__ as program
from loadtests.gpu.engine import Engine, KvCache
from loadtests.gpu.engines import EngineOptions
from loadtests.gpu.machine import Machine
from loadtests.live import LiveError
from serve_app.calibration.errors import CalibrationError
from serve_app.calibration.probe import Probe
from tests.loadtests.gpu.fake_engine import BLOCK_SIZE, FakeEngine

ROOT = Path(__file__).parents[3]


class Sized(FakeEngine):
    """Tells the size of its cache."""

    async def kv_cache(self) -> KvCache:
        """Of both engines."""
        return KvCache(4000, BLOCK_SIZE)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, EngineOptions]]:
    """How many engines were started, and with which options; nothing else is real."""
    calls: list[tuple[int, EngineOptions]] = []

    @contextlib.contextmanager
    def run(count: int, options: EngineOptions, _: Machine, *, folder: Path) -> Iterator[list[str]]:
        del folder
        calls.append((count, options))
        yield [f"http://engine-{number}" for number in range(count)]

    @contextlib.asynccontextmanager
    async def connect(urls: list[str]) -> AsyncIterator[list[FakeEngine]]:
        yield [Sized() for _ in urls]

    async def find_model(_: Probe) -> None:
        pass

    async def between_tokens_s(_: Probe, num_streams: int) -> float:
        return 0.008 + 0.001 * num_streams

    monkeypatch.setattr(program, "find_machine", lambda: Machine("NVIDIA H100, 81559 MiB", "580.1"))
    monkeypatch.setattr(program, "running_engines", run)
    monkeypatch.setattr(program, "connected", connect)
    monkeypatch.setattr(Probe, "find_model", find_model)
    monkeypatch.setattr(Probe, "between_tokens_s", between_tokens_s)
    return calls


def invoke(*arguments: str) -> Any:
    """The command, and its result."""
    return CliRunner().invoke(program.app, arguments)


def test_ttft_prints_table_and_constants(started: list[tuple[int, EngineOptions]], tmp_path: Path) -> None:
    """On a GPU with the large shape; the document says how it came about."""
    document = tmp_path / "ttft.json"
    result = invoke("ttft", "--lengths", "200,100,400", "--repetitions", "2", "--json", str(document))
    assert result.exit_code == 0, result.output
    assert "NVIDIA H100, 81559 MiB, driver 580.1" in result.output
    assert "prefill_tokens_per_s: 1000.0" in result.output
    [(count, options)] = started
    assert (count, options.shape, options.max_prompt_tokens, options.memory_share) == (1, "llama-8b", 400, 0.9)
    content = json.loads(document.read_text())
    assert (content["measurement"], content["driver"], len(content["prompts"])) == ("ttft", "580.1", 6)
    assert content["engine"]["shape"] == "llama-8b"


@pytest.mark.usefixtures("started")
def test_times_that_are_no_line_give_no_constants() -> None:
    """Why is said; the table is there all the same."""
    result = invoke("ttft", "--lengths", "100,200", "--repetitions", "1")
    assert result.exit_code == 0
    assert "No engine_model: 3 prompts of different lengths are needed" in result.output


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    "error",
    [CalibrationError("32 streams were never decoded"), ExceptionGroup("", [CalibrationError("32 streams broke off")])],
)
def test_streams_that_fail_leave_the_table(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason, and without constants."""

    async def fail(_: Probe, num_streams: int) -> float:
        del num_streams
        raise error

    monkeypatch.setattr(Probe, "between_tokens_s", fail)
    result = invoke("ttft", "--lengths", "100,200,400", "--repetitions", "1")
    assert result.exit_code == 0
    assert "could not be measured: 32 streams" in result.output
    assert "Time to the first token" in result.output
    assert "engine_model" not in result.output


def test_policies_say_that_the_engines_share_one_gpu(started: list[tuple[int, EngineOptions]], tmp_path: Path) -> None:
    """Each has its share of the memory."""
    document = tmp_path / "policies.json"
    result = invoke(
        *("policies", "--engines", "3", "--sessions", "4", "--repetitions", "2", "--rate", "1000000"),
        *("--prefix-tokens", "40", "--message-tokens", "8", "--think-s", "0", "--shape", "tiny"),
        *("--json", str(document)),
    )
    assert result.exit_code == 0, result.output
    assert "3 engines with 4,000 and 4,000 and 4,000 tokens of KV cache share one GPU" in " ".join(
        result.output.split()
    )
    [(count, options)] = started
    assert (count, options.shape, options.memory_share) == (3, "tiny", pytest.approx(0.3))
    content = json.loads(document.read_text())
    assert len(content["runs"]) == 2 * 3
    assert content["plan"]["policies"] == ["round_robin", "least_loaded", "prefix_affinity"]


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ttft", "--lengths", "1k,2k"], "not a list of numbers"),
        (["ttft", "--lengths", "0,10"], "without tokens"),
        (["ttft", "--json", "no/such/folder/a.json"], "cannot be written"),
        (["policies", "--policies", "best"], "unknown policy 'best': use one of"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(arguments: list[str], message: str) -> None:
    """In one sentence."""
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_an_engine_that_does_not_start_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever brackets its log has."""

    def fail(*_: object, **__: object) -> None:
        raise LiveError("the engine ended while starting: [/no markup] CUDA out of memory")

    monkeypatch.setattr(program, "running_engines", fail)
    monkeypatch.setattr(program, "find_machine", lambda: Machine("NVIDIA H100, 81559 MiB", "580.1"))
    result = invoke("ttft", "--folder", str(tmp_path))
    assert result.exit_code == 1
    assert "[/no markup] CUDA out of memory" in result.stderr


def test_neither_ray_nor_vllm_is_needed_in_this_process() -> None:
    """Nor what vLLM's own packages do not bring, but for xxhash and orjson: so it runs where only vLLM is installed."""
    code = """
import sys
for name in ("ray", "vllm", "torch", "transformers", "zstandard", "uvloop", "locust", "pyarrow"):
    sys.modules[name] = None
import loadtests.gpu.__main__
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_real_engine_has_what_is_asked_of_the_fake_one() -> None:
    """By name."""
    assert {"ask", "reset_cache", "kv_cache"} <= set(dir(Engine)) & set(dir(Sized))

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

from benchmarks.gpu import command as program
from benchmarks.gpu.engine import Engine, KvCache
from benchmarks.gpu.engines import EngineOptions
from benchmarks.harness import report
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.machine import Machine
from serve_app.calibration import command as calibration
from serve_app.calibration.errors import CalibrationError
from serve_app.calibration.fit import Fit, MeasuredPoint, fit_constants
from serve_app.calibration.measured_replica import MeasuredReplica
from tests.benchmarks.gpu.fake_engine import BLOCK_SIZE, FakeEngine

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
        yield [Sized(has_host=calls[-1][1].host_gib is not None) for _ in urls]

    def measure(plan: calibration.CalibrationPlan, place: MeasuredReplica, _: object) -> Fit:
        assert place.url == "http://engine-0"
        prefill = [MeasuredPoint(tokens, 0.01 + tokens / 1000) for tokens in (100, 200, plan.longest)]
        return fit_constants(prefill, [MeasuredPoint(streams, 0.008 + 0.001 * streams) for streams in range(1, 5)])

    for module in (program, report):
        monkeypatch.setattr(module, "find_machine", lambda: Machine("NVIDIA H100, 81559 MiB", "580.1"))
    monkeypatch.setattr(program, "running_engines", run)
    monkeypatch.setattr(program, "connected", connect)
    monkeypatch.setattr(calibration, "measure", measure)
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
    assert (content["measurement"], len(content["prompts"])) == ("ttft", 6)
    assert content["machine"] == "NVIDIA H100, 81559 MiB, driver 580.1"
    assert content["engine"]["shape"] == "llama-8b"
    assert content["engine_model"]["prefill_tokens_per_s"] == 1000


@pytest.mark.usefixtures("started")
def test_a_calibration_that_fails_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why is said, and there are no constants."""

    def fail(*_: object) -> Fit:
        raise CalibrationError("32 streams were never decoded")

    monkeypatch.setattr(calibration, "measure", fail)
    result = invoke("ttft", "--lengths", "100,200", "--repetitions", "1")
    assert result.exit_code == 0
    assert "No engine_model: 32 streams were never decoded" in result.output
    assert "Time to the first token" in result.output
    assert "prefill_tokens_per_s" not in result.output


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


def test_tiers_start_an_engine_without_and_one_with(started: list[tuple[int, EngineOptions]], tmp_path: Path) -> None:
    """One after the other, on the same sessions; the second one's prompts are reloaded too."""
    document = tmp_path / "tiers.json"
    result = invoke(
        *("tiers", "--host-gib", "20", "--kv-tokens", "4000", "--lengths", "101,201", "--sessions", "4"),
        *("--repetitions", "2", "--rate", "1000000", "--message-tokens", "8", "--think-s", "0"),
        *("--json", str(document)),
    )
    assert result.exit_code == 0, result.output
    assert "4,000 tokens of KV cache on the GPU, 20 GiB in the host's memory" in " ".join(result.output.split())
    assert "host_tokens_per_s: 10,000" in result.output
    assert [(count, options.host_gib) for count, options in started] == [(1, None), (1, 20.0)]
    content = json.loads(document.read_text())
    assert [run["policy"] for run in content["runs"]] == ["no tier", "20 GiB"] * 2
    assert len(content["reloads"]) == 4
    assert content["engine"]["host_gib"] == 20


def test_tiers_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM refuses to offload from a CPU, which is said before an engine starts."""
    monkeypatch.setattr(program, "find_machine", lambda: Machine("CPU: one, 2 cores", None))
    result = invoke("tiers")
    assert result.exit_code == 1
    assert "run it where a GPU is" in result.stderr


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
        raise MeasurementError("the engine ended while starting: [/no markup] CUDA out of memory")

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
import benchmarks.gpu.command
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_real_engine_has_what_is_asked_of_the_fake_one() -> None:
    """By name."""
    assert {"ask", "reset_cache", "kv_cache"} <= set(dir(Engine)) & set(dir(Sized))

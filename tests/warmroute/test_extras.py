"""A plain installation: what works without Ray, vLLM and torch, and what the rest says."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from serve_app.extras import AUDIT_MODULES, MODULE_TO_REMEDY, MissingExtraError, remedy, require
from tests.loadtests.replay.traces import write_conversations

DEFAULT_CONFIG = "configs/cpu-demo.yaml"
WITHOUT = f"""
import json, sys
sys.modules.update(dict.fromkeys({list(MODULE_TO_REMEDY)}))  # so importing one fails as if it were not installed
from typer.testing import CliRunner
from warmroute.cli import app
for line in sys.stdin:
    result = CliRunner().invoke(app, json.loads(line))
    fault = None if isinstance(result.exception, SystemExit) else result.exception
    print(json.dumps([result.exit_code, result.output, fault and repr(fault)]))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str | None]]:
    """Status, output and what was raised, of each command, in one process, from an empty folder but for its inputs."""
    folder = tmp_path_factory.mktemp("empty")
    trace = write_conversations(folder / "trace.jsonl", num_conversations=2, num_turns=2)
    (folder / "log.jsonl").write_text('{"messages": [{"role": "user", "content": "Hello"}]}\n')
    commands = {
        "version": ["--version"],
        "help": ["--help"],
        "replay": ["replay", str(trace), "--policy", "round_robin", "--replicas", "1", "--jobs", "1"],
        "grafana": ["grafana"],
        "alerts": ["alerts"],
        "serve-config": ["serve-config", DEFAULT_CONFIG],
        "doctor": ["doctor"],
        "doctor of another": ["doctor", "--dashboard", "http://127.0.0.1:9", "--url", "http://127.0.0.1:9"],
        "check": ["check", DEFAULT_CONFIG],
        "serve": ["serve", DEFAULT_CONFIG],
        "bench": ["bench", DEFAULT_CONFIG, "--routing", "round_robin", "--routing", "prefix_affinity"],
        "demo-model": ["demo-model", "model"],
        "audit": ["audit", "log.jsonl"],
        "audit help": ["audit", "--help"],
    }
    answers = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        input="".join(json.dumps(each) + "\n" for each in commands.values()),
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parent.parent.parent), "COLUMNS": "200"},
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert {path.name for path in folder.iterdir()} == {"trace.jsonl", "log.jsonl"}, "something was left behind"
    return dict(zip(commands, map(json.loads, answers.splitlines()), strict=True))


@pytest.mark.parametrize("command", ["version", "help", "replay", "grafana", "alerts", "serve-config"])
def test_what_needs_no_engine_works(results: dict[str, tuple[int, str, str | None]], command: str) -> None:
    """Without any extra."""
    status, output, fault = results[command]
    assert (status, fault) == (0, None), output


@pytest.mark.parametrize(
    ("command", "module", "expected_status"),
    [
        ("doctor of another", "ray", 1),
        ("check", "ray", 1),
        ("serve", "ray", 1),
        ("bench", "ray", 1),
        ("demo-model", "tokenizers", 1),
    ],
)
def test_what_needs_one_names_the_extra(
    results: dict[str, tuple[int, str, str | None]], command: str, module: str, expected_status: int
) -> None:
    """In one sentence, and before anything is begun."""
    status, output, fault = results[command]
    assert (status, fault) == (expected_status, None), output
    assert output == (
        f'error: this needs {module}, which is not installed: pip install "warmroute[cpu]", '
        'or "warmroute[gpu]" where there are GPUs\n'
    )


def test_the_audit_names_its_extra(results: dict[str, tuple[int, str, str | None]]) -> None:
    """Its status is 2, as 1 says that the hit rate is low. Its help needs nothing."""
    status, output, fault = results["audit"]
    assert (status, fault) == (2, None), output
    assert output == (
        'error: this needs detect_secrets, which is not installed: pip install "warmroute[audit,cpu]", '
        'or "warmroute[audit,gpu]" where there are GPUs\n'
    )
    status, output, fault = results["audit help"]
    assert (status, fault) == (0, None), output
    assert "--fail-under" in output


def test_the_extra_of_the_audit_has_what_is_asked_for() -> None:
    """Each module that the audit requires comes with a package of that extra, and the lock has them all."""
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages = {re.split(r"[<>=]", requirement)[0] for requirement in extras["audit"]}
    module_to_packages = packages_distributions()
    assert {package for module in AUDIT_MODULES for package in module_to_packages[module]} == packages
    lock = (root / "requirements-cpu.lock").read_text()
    assert all(f"\n{package}==" in lock for package in packages)


def test_without_a_cluster_that_comes_first(results: dict[str, tuple[int, str, str | None]]) -> None:
    """An extra alone would not help."""
    status, output, fault = results["doctor"]
    assert (status, fault) == (1, None)
    assert output.startswith("error: no cluster was started from this folder")


def test_a_module_that_no_extra_has_is_a_fault_of_ours() -> None:
    """So it is not explained away."""
    assert remedy(ModuleNotFoundError("No module named 'serve_app.nothing'", name="serve_app.nothing")) is None
    assert remedy(ModuleNotFoundError("in the words of somebody else")) is None


def test_the_first_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are required."""
    require("ray", "vllm")
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match="this needs vllm, which is not installed: pip install"):
        require("ray", "vllm")

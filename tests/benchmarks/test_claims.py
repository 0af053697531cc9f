"""The registry of claims, and the command line over it."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.claims import CLAIMS, Claim, Need

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_claim_is_listed_with_what_it_asks_and_needs() -> None:
    """One line each, under a heading for what they need."""
    listed = run().stdout
    assert all(f"{claim.name} " in listed and claim.asks in listed for claim in CLAIMS.values())
    assert [line for line in listed.splitlines() if line.startswith("needs")] == [f"needs {need}:" for need in Need]


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
def test_every_claim_has_a_module_with_a_command(claim: Claim) -> None:
    """Which is found without importing what it needs."""
    spec = find_spec(claim.module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    assigned = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    assert "app" in {target.id for target in assigned if isinstance(target, ast.Name)}


def test_a_claims_options_are_its_own() -> None:
    """The help names the command as it is typed."""
    printed = run("autoscaling", "--help").stdout
    assert "python -m benchmarks autoscaling [OPTIONS]" in printed
    assert "--policies" in printed


def test_an_unknown_claim_is_refused_by_name() -> None:
    """The message lists what exists."""
    ended = run("nothing")
    assert ended.returncode == 1
    assert "there is no claim 'nothing': use one of decision_time, decision, autoscaling" in ended.stderr

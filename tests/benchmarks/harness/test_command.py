"""What all claims' commands share: their options, their exit codes, and their failures."""

import json
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.claims import CLAIMS, Claim, Need
from benchmarks.harness.command import make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.report import Report
from loadtests.replay.options import OptionError

app = make_app()


@app.command()
@measurement
def main(number: Annotated[int, typer.Option(help="Faults.")] = 0, error: str = "") -> Report:
    """Find so many faults, or fail."""
    if error == "group":
        raise ExceptionGroup("tasks", [MeasurementError("one"), OptionError("two")])
    if error:
        raise {"ours": MeasurementError, "theirs": RuntimeError}[error]("it cannot be")
    return Report((), {"number": number}, faults=["too much"] * number)


def test_a_commands_options_are_the_functions_and_the_two_of_all(tmp_path: Path) -> None:
    """The exit code is the verdict."""
    path = tmp_path / "found.json"
    good = CliRunner().invoke(app, [])
    assert (good.exit_code, good.stdout) == (0, "PASS\n")
    bad = CliRunner().invoke(app, ["--number", "2", "--json", str(path)])
    assert (bad.exit_code, bad.stdout) == (1, "FAIL: too much\nFAIL: too much\n")
    assert json.loads(path.read_text())["number"] == 2


def test_a_page_is_printed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the claim's own question."""
    monkeypatch.setitem(CLAIMS, "mine", Claim("mine", "Is it so?", Need.NOTHING, __name__))
    assert CliRunner().invoke(app, ["--markdown"]).stdout.startswith("# mine: Is it so?\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--error", "ours"], "error: it cannot be"),
        (["--error", "group"], "error: one; two"),
        (["--json", "no/such/folder/a.json"], "error: --json no/such/folder/a.json cannot be written"),
    ],
)
def test_a_failure_of_our_own_is_one_sentence(arguments: list[str], message: str) -> None:
    """On the standard error, with exit code 1."""
    ended = CliRunner().invoke(app, arguments)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert message in ended.stderr


def test_a_defect_keeps_its_traceback() -> None:
    """An exception that is not ours is not for users."""
    assert isinstance(CliRunner().invoke(app, ["--error", "theirs"]).exception, RuntimeError)

"""What the documentation names exists: commands, claims, settings, metrics, alerts, policies and files."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from benchmarks.claims import CLAIMS
from loadtests.bench.command import app as bench
from loadtests.replay.command import app as replay
from loadtests.replay.plan_command import app as plan
from serve_app.audit.command import app as audit
from serve_app.settings.schema import Settings
from serve_app.telemetry.alerts import rules
from serve_app.telemetry.metrics import METRICS, OPS_METRICS
from tests.docs.pages import DOCS, PAGES, ROOT, code
from warmroute.cli import app

NAME = re.compile(r"^[a-z][a-z_-]*$")
COMMANDS_OF_THEIR_OWN = {"replay": replay, "plan": plan, "bench": bench, "audit": audit}
SECTIONS = tuple(
    name
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
)
KEY = re.compile(rf"^(?:{'|'.join(SECTIONS)})\.[a-z_0-9]+")
METRIC = re.compile(r"\b(?:ray_)?(warmroute_[a-z_]+?)(?:_total|_bucket)?\b")
ALERT = re.compile(r"^Warmroute[A-Z]\w+$")
FILE = re.compile(r"^(?:router|serve_app|loadtests|warmroute|benchmarks|tests|tools|configs|k8s)/[\w./-]*$")
NO_METRICS = ("warmroute_request_id", "warmroute_shadow_")
"""A field of the request log, and the beginning of several metrics' names."""

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))


@by_page
def test_commands_exist(page: Path) -> None:
    """Every `warmroute X`, with all the options that it is shown with."""
    group = typer.main.get_command(app)
    for line in code(page):
        words = line.partition("#")[0].lstrip().removeprefix(".venv/bin/").split()
        if words[:1] == ["warmroute"] and words[1:] and NAME.match(words[1]):
            name, *rest = words[1:]
            assert name in group.commands, f"there is no `warmroute {name}`: {line}"
            own = COMMANDS_OF_THEIR_OWN.get(name)
            _assert_takes(group.commands[name] if own is None else typer.main.get_command(own), rest, line)


@by_page
def test_claims_exist(page: Path) -> None:
    """Every `python -m benchmarks X`, likewise."""
    for line in code(page):
        words = line.partition("#")[0].split()
        if words[:3] == ["python", "-m", "benchmarks"] and words[3:] and NAME.match(words[3]):
            name, *rest = words[3:]
            assert name in CLAIMS, f"there is no claim {name}: {line}"
            _assert_takes(typer.main.get_command(import_module(CLAIMS[name].module).app), rest, line)


@by_page
def test_settings_exist(page: Path) -> None:
    """Every key of ours, such as `routing.policy`."""
    known = set(_keys("", Settings))
    for piece in code(page):
        for key in KEY.findall(piece):
            assert key in known, f"there is no setting {key}"


@by_page
def test_metrics_exist(page: Path) -> None:
    """Every `warmroute_x`, with or without Ray's prefix and Prometheus' ending."""
    known = {metric.name for metric in (*METRICS, *OPS_METRICS)}
    for piece in code(page):
        for name in METRIC.findall(piece):
            assert name in known or name in NO_METRICS, f"there is no metric {name}"


def test_the_page_of_alerts_lists_all() -> None:
    """Neither more nor fewer than the rules."""
    named = {piece for piece in code(DOCS / "operate" / "metrics-alerts.md") if ALERT.match(piece)}
    assert named == {rule["alert"] for group in rules()["groups"] for rule in group["rules"]}


@by_page
def test_files_exist(page: Path) -> None:
    """Every file and folder of the repository that is named as code."""
    for piece in code(page):
        if FILE.match(piece) and "/mine" not in piece:
            assert (ROOT / piece).exists(), f"there is no {piece}"


def _assert_takes(command: Any, words: list[str], line: str) -> None:
    """The options, and the command below it if it has some."""
    below = getattr(command, "commands", None)
    if below and words and NAME.match(words[0]):
        assert words[0] in below, f"there is no {words[0]}: {line}"
        command = below[words[0]]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("--") and word != "--help":
            assert word.partition("=")[0] in known, f"there is no option {word}: {line}"


def _keys(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(f"{prefix}{name}.", field.annotation)

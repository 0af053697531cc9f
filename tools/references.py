"""Write the pages of docs/reference/ that the code decides; with `--check`, say whether they are current."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from loadtests.bench.command import app as bench
from loadtests.replay.command import app as replay
from loadtests.replay.plan_command import app as plan
from serve_app.audit.command import app as audit
from serve_app.settings.schema import AutoscalingOptions, Settings
from serve_app.telemetry.metrics import METRICS, OPS_METRICS, Metric
from warmroute.cli import app

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = DOCS / "reference"
BELOW_LLM = [("llm.deployment_config.autoscaling_config.policy.policy_kwargs.", AutoscalingOptions)]
"""Settings of ours inside `llm`, which is otherwise Ray's."""
COMMANDS_OF_THEIR_OWN = {"replay": replay, "plan": plan, "bench": bench, "audit": audit}
PAGE_OF_DOCS = re.compile(r"\bdocs/([\w/.-]+\.md)")
SETTINGS_HEAD = """# Settings

A settings file is YAML. A key that it leaves out has the default below; a key that does not exist is refused.
`warmroute check FILE` validates a file, the `llm` part included. This page is generated from the settings by
`make docs`.
"""
CLI_HEAD = """# Command line

Every command explains itself with `--help`, and ends with status 0, or with status 1 and one sentence. This page is
generated from the commands by `make docs`.
"""
METRICS_HEAD = """# Metrics

Routers export these through Ray's metrics, once a second, each with the label `application`. Prometheus knows them by
the names below. [Metrics and alerts](../operate/metrics-alerts.md) says how to scrape and use them. This page is
generated from the definitions by `make docs`.
"""
OPS_HEAD = """
## Of the operators' application

`/ops/metrics` has these, and those above without the prefix `ray_`, added up over all routers that ever were.
"""


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated page, and what it should be."""
    yield FOLDER / "settings.md", settings_page()
    yield FOLDER / "cli.md", cli_page()
    yield FOLDER / "metrics.md", metrics_page()


def settings_page() -> str:
    """Every key with its default and its docstring."""
    models = [*_models("", Settings), *BELOW_LLM]
    return SETTINGS_HEAD + "".join(_settings_section(prefix, model) for prefix, model in models)


def _models(prefix: str, model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    nested = [
        (f"{prefix}{name}.", field.annotation)
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    return [(prefix, model), *(pair for name, inner in nested for pair in _models(name, inner))]


def _settings_section(prefix: str, model: type[BaseModel]) -> str:
    rows = [
        (f"`{prefix}{name}`", _setting_default(field), field.description)
        for name, field in model.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    about = _linked(model.__doc__)
    return f"\n## {prefix.rstrip('.') or 'The application'}\n\n{about}\n\n" + _table(
        ("key", "default", "meaning"), rows
    )


def _setting_default(field: FieldInfo) -> str:
    return "required" if field.is_required() else f"`{field.default}`"


def cli_page() -> str:
    """Every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    return CLI_HEAD + "".join(_command_section(name, command) for name, command in _commands(group))


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  a class of Typer's own
    """Every command by its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _command_section(name: str, command: Any) -> str:  # noqa: ANN401  a class that Typer keeps to itself
    if name in COMMANDS_OF_THEIR_OWN:
        command = typer.main.get_command(COMMANDS_OF_THEIR_OWN[name])
    rows = [
        (_names(parameter), _parameter_default(parameter), parameter.help)
        for parameter in command.params
        if parameter.name != "help"
    ]
    table = "\n" + _table(("argument or option", "default", "meaning"), rows) if rows else ""
    return f"\n## warmroute {name}\n\n{_linked(command.help)}\n{table}"


def _names(parameter: Any) -> str:  # noqa: ANN401  likewise
    names = parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]
    return ", ".join(f"`{name}`" for name in names) + (", repeatable" if parameter.multiple else "")


def _parameter_default(parameter: Any) -> str:  # noqa: ANN401  likewise
    if parameter.required:
        return "required"
    if parameter.name == "jobs":
        return "all cores"
    return "" if parameter.default in (None, False, []) else f"`{parameter.default}`"


def metrics_page() -> str:
    """Every metric with its labels."""
    return METRICS_HEAD + "\n" + _metrics_table(METRICS, "ray_") + OPS_HEAD + "\n" + _metrics_table(OPS_METRICS, "")


def _metrics_table(metrics: Iterable[Metric], prefix: str) -> str:
    rows = [
        (
            f"`{prefix}{metric.exported.removeprefix('ray_')}`",
            metric.kind.value,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.description,
        )
        for metric in metrics
    ]
    return _table(("metric", "kind", "labels", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str | None, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(_linked(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _linked(text: str | None) -> str:
    """A docstring on one line, with the pages of docs/ that it names as links."""
    return PAGE_OF_DOCS.sub(_link, " ".join((text or "").split()))


def _link(match: re.Match[str]) -> str:
    target = os.path.relpath(DOCS / match[1], FOLDER)
    return f"[{Path(target).stem}]({target})"


if __name__ == "__main__":
    for path, content in pages():
        if "--check" not in sys.argv:
            path.write_text(content)
        elif not path.exists() or path.read_text() != content:
            sys.exit(f"docs/reference/{path.name} is out of date: run `make docs`")

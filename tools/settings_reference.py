"""Write docs/reference/settings.md from the settings themselves; with `--check`, say whether it is current."""

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serve_app.settings.schema import AutoscalingOptions, Settings

FURTHER = [("llm.deployment_config.autoscaling_config.policy.policy_kwargs.", AutoscalingOptions)]
"""Below `llm`, which is Ray's."""
TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"
HEAD = """# Settings

Generated from `serve_app/settings/schema.py` by `make docs`. A settings file is YAML; what it leaves out has the
default. `warmroute check FILE` validates one, the `llm` part included.
"""


def reference() -> str:
    """The whole page."""
    return HEAD + "".join(_section(name, model) for name, model in [*_models("", Settings), *FURTHER])


def _models(prefix: str, model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    nested = [
        (f"{prefix}{name}.", field.annotation)
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    return [(prefix, model), *(each for name, inner in nested for each in _models(name, inner))]


def _section(prefix: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{prefix}{name}` | {_default(field)} | {' '.join((field.description or '').split())} |"
        for name, field in model.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    ]
    title = prefix.rstrip(".") or "The application"
    about = " ".join((model.__doc__ or "").split())
    return "\n".join(["", f"## {title}", "", about, "", "| key | default | what it does |", "|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    return "required" if field.is_required() else f"`{value}`"


if __name__ == "__main__":
    if "--check" not in sys.argv:
        TARGET.write_text(reference())
    elif TARGET.read_text() != reference():
        sys.exit(f"{TARGET.name} is out of date: run `make docs`")

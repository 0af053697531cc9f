"""What a kustomize overlay takes from a settings file: Serve's config in a RayService, and Ray's environment."""

from pathlib import Path
from typing import Any

import yaml

from serve_app.control.environment import data_path_environment
from serve_app.control.serve_config import serve_config
from serve_app.settings.schema import Settings

SERVE_CONFIG_FILE = "serve-config.yaml"
ENVIRONMENT_FILE = "data-path.env"
HEAD = "# Made from {source} by `warmroute kubernetes`; change that instead.\n"


class _MultilineText(str):
    """Text that YAML shall show line by line."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


def _as_block(dumper: yaml.SafeDumper, text: _MultilineText) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


_Dumper.add_representer(_MultilineText, _as_block)


def overlay_files(settings: Settings, *, source: str) -> dict[str, str]:
    """The files' content by their names.

    Args:
        settings: the overlay's.
        source: the settings file's name, for whoever opens one of the others.

    """
    head = HEAD.format(source=source)
    environment = "".join(f"{name}={value}\n" for name, value in data_path_environment(settings).items())
    return {
        SERVE_CONFIG_FILE: head + yaml.dump(_patch(settings), Dumper=_Dumper, sort_keys=False),
        ENVIRONMENT_FILE: head + environment,
    }


def write_overlay_files(settings: Settings, path: Path) -> list[Path]:
    """Write the files beside the settings file from which they are made; returns their paths."""
    written = []
    for name, content in overlay_files(settings, source=path.name).items():
        target = path.with_name(name)
        target.write_text(content)
        written.append(target)
    return written


def _patch(settings: Settings) -> dict[str, Any]:
    config = yaml.safe_dump(serve_config(settings), sort_keys=False)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "warmroute"},
        "spec": {"serveConfigV2": _MultilineText(config)},
    }

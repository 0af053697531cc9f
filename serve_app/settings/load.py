"""Reading a settings file. Free of Ray."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from serve_app.settings.faults import explain
from serve_app.settings.schema import Settings

CONFIGS = Path("configs")
"""The folder of the settings files that come with Warmroute."""


class SettingsError(ValueError):
    """A settings file that cannot be used; the message names the key, the value and what is allowed."""


def shipped_settings(name: str) -> Path:
    """A settings file that came with Warmroute: within this package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent.parent
    in_wheel = package / CONFIGS / name
    return in_wheel if in_wheel.exists() else package.parent / CONFIGS / name


def load_settings(path: Path) -> Settings:
    """Read a YAML file. Where the working folder has no `configs/NAME`, the one that came with Warmroute is read.

    Raises:
        SettingsError: the file is absent, is not YAML, or does not fit; one line a fault.

    """
    try:
        content = yaml.safe_load(_found(path).read_text())
    except OSError as error:
        msg = f"cannot read settings {path}: {error.strerror}"
        raise SettingsError(msg) from error
    except yaml.YAMLError as error:
        msg = f"{path} is not valid YAML: {error}"
        raise SettingsError(msg) from error
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path} cannot be used:\n{explain(error, Settings)}") from error


def _found(path: Path) -> Path:
    return shipped_settings(path.name) if path.parent == CONFIGS and not path.exists() else path

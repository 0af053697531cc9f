"""Everything about a comparison as JSON: how it was made, every run, and the estimates."""

import dataclasses
import json
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from loadtests.replay.estimates import bound_estimates, estimates
from loadtests.replay.experiment import Comparison


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    try:
        own = version("warmroute")
    except PackageNotFoundError:  # run from a source tree that was never installed
        own = "not installed"
    return {"warmroute": own, "python": platform.python_version(), "machine": platform.machine()}


def as_json(comparison: Comparison, *, command: str) -> str:
    """What cannot be written in JSON is null, if it is no number, or text."""
    content = {
        "command": command,
        "versions": versions(),
        **dataclasses.asdict(comparison),
        "estimates": [dataclasses.asdict(each) for each in estimates(comparison)],
        "bound_estimates": [dataclasses.asdict(each) for each in bound_estimates(comparison)],
    }
    return json.dumps(plain(content), indent=1, default=str) + "\n"


def plain(value: Any) -> Any:  # noqa: ANN401  whatever JSON holds
    """The same without numbers that JSON does not know."""
    match value:
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case float() if math.isnan(value):
            return None
        case _:
            return value

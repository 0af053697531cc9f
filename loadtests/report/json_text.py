"""Reports as JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(content: Mapping[str, Any]) -> str:
    """A file's content. What JSON does not know is null, if it is not a number, or text."""
    return json.dumps(_plain(content), indent=1, default=str) + "\n"


def _plain(value: Any) -> Any:  # noqa: ANN401  whatever JSON has
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if math.isnan(value):
            return None
        case _:
            return value

"""The folder of other people's texts, which is not part of this repository, and how its files are read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

TEXTS = Path(__file__).parents[2] / "../shared/data/texts"


class TextsError(Exception):
    """The texts are not there, or not what they were."""


def read_text(path: Path) -> str:
    """All of a file, .zst too."""
    if path.suffix != ".zst":
        return path.read_text(encoding="utf-8")
    with zstandard.open(path, "rt", encoding="utf-8") as file:
        return str(file.read())


def read_json_lines(path: Path) -> Iterator[Any]:
    """A value a line, .zst too."""
    for line in read_text(path).splitlines():
        yield json.loads(line)

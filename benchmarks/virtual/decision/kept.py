"""Results in a file of JSON lines, so that what was run once need not be run again."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.virtual.decision.situation import Cell, CellFigures

Kept = dict[str, CellFigures]
"""Results by `key`."""


def key(cell: Cell, tag: str) -> str:
    """What a result depends on: the cell's parameters and the version of the code."""
    return _key(cell.parameters(), tag)


def read_results(path: Path) -> Kept:
    """All results of the file, none without one; a line that an interruption cut off is left out."""
    if not path.exists():
        return {}
    rows = [row for row in map(_read_row, path.read_text(encoding="utf-8").splitlines()) if row is not None]
    return {_key(row["parameters"], row["tag"]): CellFigures(**row["result"]) for row in rows}


def append_result(path: Path, cell: Cell, tag: str, result: CellFigures) -> None:
    """Append one line in one write, so that several processes may append to the same file."""
    row = {"tag": tag, "name": cell.situation.name, "parameters": cell.parameters(), "result": asdict(result)}
    line = json.dumps(row) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def end_last_line(path: Path) -> None:
    """End the last line if it was cut off, so that the next one begins where a line begins."""
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as lines:
            lines.write("\n")


def _key(parameters: dict[str, Any], tag: str) -> str:
    return json.dumps([tag, parameters], sort_keys=True)


def _read_row(line: str) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return row

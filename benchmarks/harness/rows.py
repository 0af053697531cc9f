"""Rows of numbers to a table and to JSON. A column's name and format follow from the field's name."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from loadtests.replay.trace import TraceError

Row = TypeVar("Row")
"""A dataclass; fields that are not floats are its labels."""


def mean_row(rows: Sequence[Row]) -> Row:
    """The means of rows with equal labels, which differ by their seed."""
    first: Any = rows[0]
    means = {}
    for name in (each.name for each in dataclasses.fields(first)):
        values = [getattr(row, name) for row in rows]
        if isinstance(values[0], float):
            means[name] = fmean(values)
        else:
            assert len(set(values)) == 1, f"rows of different {name} have no mean: {values}"
    mean: Row = dataclasses.replace(first, **means)
    return mean


def as_table(title: str, rows: Sequence[Any]) -> Table:
    """At least one row."""
    table = Table(title=title, title_justify="left")
    names = [each.name for each in dataclasses.fields(rows[0])]
    for name in names:
        is_number = isinstance(getattr(rows[0], name), (int, float))
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left", no_wrap=not is_number)
    for row in rows:
        table.add_row(*(_cell(name, getattr(row, name)) for name in names))
    return table


def as_json(title: str, rows: Sequence[Any]) -> dict[str, Any]:
    """The same, in full precision."""
    return {"title": title, "rows": [dataclasses.asdict(row) for row in rows]}


def print_tables(
    titled_runs: Iterable[tuple[str, Callable[[], Iterable[Any]]]], *, width: int, json_file: Path | None
) -> None:
    """Run one after the other, print the rows of each as a table, and write all of them to a file, if one is named.

    Raises:
        typer.Exit: a trace cannot be used; it was said why.

    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = width
    tables = []
    for title, run in titled_runs:
        with console.status(title):
            try:
                rows = list(run())
            except TraceError as error:
                Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", style="red")
                raise typer.Exit(1) from error
        console.print(as_table(title, rows))
        tables.append(as_json(title, rows))
    if json_file is not None:
        json_file.write_text(json.dumps(tables, indent=1))


def _cell(name: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if name.endswith("_tokens"):
        return f"{value:,.0f}"
    sign = "+" if "_change" in name else ""
    return f"{value:{sign}.4f}" if "rate" in name or name == "agreement" else f"{value:{sign}.2f}"

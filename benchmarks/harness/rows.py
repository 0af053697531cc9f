"""Rows of numbers as tables and as JSON. A column's name and format follow from the field's name."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, TypeVar

from rich.table import Table

from benchmarks.harness.report import Report
from loadtests.report.console import notes_console

Row = TypeVar("Row")
"""A dataclass, whose fields are its labels where they are not floats."""


def mean_row(rows: Sequence[Row]) -> Row:
    """The mean of rows with equal labels, which differ by their seed."""
    first: Any = rows[0]
    means = {}
    for name in (field.name for field in dataclasses.fields(first)):
        values = [getattr(row, name) for row in rows]
        if isinstance(values[0], float):
            means[name] = fmean(values)
        else:
            assert len(set(values)) == 1, f"rows of different {name} have no mean: {values}"
    mean: Row = dataclasses.replace(first, **means)
    return mean


def as_table(title: str, rows: Sequence[Any]) -> Table:
    """A table of at least one row."""
    table = Table(title=title, title_justify="left")
    names = [field.name for field in dataclasses.fields(rows[0])]
    for name in names:
        is_number = isinstance(getattr(rows[0], name), (int, float))
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left", no_wrap=not is_number)
    for row in rows:
        table.add_row(*(_cell(name, getattr(row, name)) for name in names))
    return table


def rows_report(titled_runs: Iterable[tuple[str, Callable[[], Iterable[Any]]]], *, caveats: Sequence[str]) -> Report:
    """Run one after the other; the rows of each are a table."""
    console = notes_console()
    tables, records = [], []
    for title, run in titled_runs:
        with console.status(title):
            rows = list(run())
        tables.append(as_table(title, rows))
        records.append({"title": title, "rows": [dataclasses.asdict(row) for row in rows]})
    return Report(tables, {"tables": records}, caveats=caveats)


def _cell(name: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if name.endswith("_tokens"):
        return f"{value:,.0f}"
    sign = "+" if "_change" in name else ""
    return f"{value:{sign}.4f}" if "rate" in name or name == "agreement" else f"{value:{sign}.2f}"

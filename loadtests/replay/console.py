"""What the commands have in common in a terminal."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from loadtests.replay.options import OptionError
from loadtests.replay.report_cells import Cells
from loadtests.report.tables import make_table

Number = TypeVar("Number", int, float, float | None)
FILE_WIDTH = 240
"""Columns of a table in a log file, which needs no narrow terminal's."""


def make_console() -> Console:
    """For results."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def rich_table(cells: Cells) -> Table:
    """The same, with lines."""
    table = make_table(cells.title, left=cells.header[:1], right=cells.header[1:])
    for row in cells.rows:
        table.add_row(*row)
    return table


@contextmanager
def progress(num_runs: int) -> Iterator[Callable[[], None]]:
    """A bar in a terminal, until the end; what it yields is to be called after each run."""
    console = Console(stderr=True)
    columns = (TextColumn("Replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=num_runs)
        yield lambda: bar.advance(task)


def check_output(option: str, path: Path | None) -> None:
    """Before hours of runs, not after: whether a file can be written there.

    Raises:
        OptionError: it cannot.

    """
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise OptionError(f"{option} {path} cannot be written: name a file in a folder that you may write to")


def at_least(least: float) -> Callable[[typer.CallbackParam, Number], Number]:
    """An option's callback: its number is not below that."""

    def check(option: typer.CallbackParam, value: Number) -> Number:
        if value is not None and not value >= least:  # which no number is, if it is not a number
            fail(f"{option.opts[0]} {value:g} is too small: use {least:g} or more")
        return value

    return check


def command_line() -> str:
    """What was typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def fail(message: str) -> NoReturn:
    """One clear sentence, and status 1."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", style="red", markup=False)
    raise typer.Exit(1)

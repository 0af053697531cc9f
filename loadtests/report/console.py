"""What commands share in a terminal: the console, a bar of progress, checks of options, and errors."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Number = TypeVar("Number", int, float, float | None)
FILE_WIDTH = 240
"""Columns of a table in a file, which need not fit into a terminal."""


def make_console() -> Console:
    """The console for results."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def notes_console() -> Console:
    """The console for progress and errors, on the standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def progress(num_runs: int) -> Iterator[Callable[[], None]]:
    """Show a bar in a terminal, until the end; the function that it yields is to be called after each run."""
    console = Console(stderr=True)
    columns = (TextColumn("Replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=num_runs)
        yield lambda: bar.advance(task)


def check_output(option: str, path: Path | None) -> None:
    """End the command before hours of runs, not after, where a file cannot be written."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        fail(f"{option} {path} cannot be written: name a file in a folder that you may write to")


def at_least(least: float) -> Callable[[typer.CallbackParam, Number], Number]:
    """An option's callback, which refuses a number below the least."""

    def check(option: typer.CallbackParam, value: Number) -> Number:
        if value is not None and not value >= least:  # which no number is, if it is not a number
            fail(f"{option.opts[0]} {value:g} is too small: use {least:g} or more")
        return value

    return check


def fail(message: str) -> NoReturn:
    """Print one clear sentence, and end with status 1."""
    notes_console().print(f"error: {message}", style="red", markup=False)
    raise typer.Exit(1)

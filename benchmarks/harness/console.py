"""Where a measurement prints: notes while it runs go to the standard error, its report alone to the standard output."""

from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

FILE_WIDTH = 240
"""Columns of a table in a file, which need not fit into a terminal."""


def notes_console() -> Console:
    """The console for progress, and for whatever else is told before there is a report."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def report_console() -> Console:
    """The console for the report."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


def fail(message: str) -> NoReturn:
    """Print one sentence, and end with exit code 1."""
    notes_console().print(f"[red]error:[/red] {escape(message)}")
    raise typer.Exit(1)

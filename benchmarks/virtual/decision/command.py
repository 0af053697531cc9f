"""`python -m benchmarks decision`. Thin: parse, run, print."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.virtual.decision import show
from benchmarks.virtual.decision.runs import Book, run_cells
from benchmarks.virtual.decision.situation import SHIPPED_ORDER, Cell, Situation, Table
from benchmarks.virtual.decision.situations import all_situations
from benchmarks.virtual.decision.verdict import OURS, RIVALS, Situations
from loadtests.replay.console import check_output, fail, make_console, progress
from loadtests.replay.generators import DURATION_S
from loadtests.replay.options import OptionError, read_policies
from loadtests.replay.rivals.table import installed_names
from serve_app.settings.schema import WaitingOrderName

TRACES = Path(__file__).parents[3] / "../shared/data/traces"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(  # noqa: PLR0913  one for each option
    tables: Annotated[list[Table] | None, typer.Argument(help="Default: all of them.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="JSON lines; what is there already is not run again.")],
    tag: Annotated[str, typer.Option(help="Names the version of the code: other versions' results do not count.")],
    rivals_tag: Annotated[str | None, typer.Option(help="The same of rivals, if they were run before.")] = None,
    policies: Annotated[
        str | None, typer.Option(help="Separated by commas; default: ours, and rivals whose packages are installed.")
    ] = None,
    only: Annotated[str, typer.Option(help="Regular expression that a situation's name has.")] = "",
    seeds: Annotated[str, typer.Option(help="Separated by commas.")] = "1,2,3",
    duration_s: Annotated[float, typer.Option(min=1, help="Of arrivals that are made.")] = DURATION_S,
    waiting_order: Annotated[
        WaitingOrderName, typer.Option(help="Which prompt that waits in an engine goes next, behind every policy.")
    ] = SHIPPED_ORDER,
    traces: Annotated[Path, typer.Option(help="Folder of the recorded ones.")] = TRACES,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    brief: Annotated[bool, typer.Option("--brief", help="Only the verdicts.")] = False,
    names_only: Annotated[bool, typer.Option("--list", help="Only the names of the situations.")] = False,
    show_only: Annotated[bool, typer.Option("--show-only", help="Run nothing, show what is there.")] = False,
) -> None:
    """Our decision against every rival's, in the simulator."""
    try:
        check_output("--out", out)
        names = read_policies(policies or ",".join(name for name in (OURS, *RIVALS) if name in installed_names()))
        situations = _chosen(tables or list(Table), only)
        if names_only:
            _print_names(situations)
            raise typer.Exit
        cells = [
            Cell(situation, policy, seed, duration_s, waiting_order)
            for situation, seed, policy in product(situations, _read_seeds(seeds), names)
        ]
        book = Book(out, {name: tag if name == OURS else rivals_tag or tag for name in names})
        if not show_only:
            _run_missing(cells, book, traces=traces, num_jobs=jobs)
    except ValueError as error:
        fail(str(error))
    _print(book.measured(cells), tables or list(Table), waiting_order, is_brief=brief)


def _run_missing(cells: Sequence[Cell], book: Book, *, traces: Path, num_jobs: int) -> None:
    todo = book.missing(cells)
    make_console().print(f"{len(cells) - len(todo)} of {len(cells)} results are in {book.path}")
    with progress(len(todo)) as on_done:
        run_cells(todo, book, traces=traces, num_jobs=num_jobs, on_done=on_done)


def _print(measured: Situations, tables: Sequence[Table], waiting_order: str, *, is_brief: bool) -> None:
    console = make_console()
    for table in tables:
        if any(situation.table is table for situation in measured):
            if not is_brief:
                console.print(show.all_numbers(table, measured, waiting_order))
            console.print(show.verdicts(table, measured, waiting_order))
            console.print(show.count_verdicts(table, measured))


def _print_names(situations: Sequence[Situation]) -> None:
    console = make_console()
    for situation in situations:
        console.print(f"{situation.table}: {situation.name}")


def _chosen(tables: Sequence[Table], only: str) -> list[Situation]:
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise OptionError(f"--only {only} is no regular expression: {error}") from error
    chosen = [each for each in all_situations() if each.table in tables and pattern.search(each.name)]
    if not chosen:
        raise OptionError(f"--only {only} leaves no situation: see all their names with --list")
    return chosen


def _read_seeds(text: str) -> list[int]:
    try:
        return sorted({int(number) for number in text.split(",")})
    except ValueError as error:
        raise OptionError(f"--seeds {text} is not a list of whole numbers: separate them by commas") from error

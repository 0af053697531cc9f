"""Our routing decision against every rival's, in the simulator, with a verdict for each situation."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.command import TRACES, make_app, measurement
from benchmarks.harness.console import notes_console
from benchmarks.harness.report import Report
from benchmarks.virtual.decision import show
from benchmarks.virtual.decision.runs import ResultStore, run_cells
from benchmarks.virtual.decision.situation import SHIPPED_ORDER, Cell, Situation, Table
from benchmarks.virtual.decision.situations import all_situations
from benchmarks.virtual.decision.verdict import OURS, RIVALS, Situations
from benchmarks.virtual.several_routers.setup import CAVEATS
from loadtests.replay.generators import DURATION_S
from loadtests.replay.options import OptionError, read_policies
from loadtests.replay.rivals.table import installed_names
from loadtests.report.console import check_output, progress
from serve_app.settings.schema import WaitingOrderName

app = make_app()


@app.command()
@measurement
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
) -> Report:
    """Judge our decision against every rival's, in the simulator."""
    check_output("--out", out)
    names = read_policies(policies or ",".join(name for name in (OURS, *RIVALS) if name in installed_names()))
    shown, situations = tables or list(Table), _chosen(tables or list(Table), only)
    if names_only:
        return Report((), {}, lines=[f"{situation.table}: {situation.name}" for situation in situations])
    cells = [
        Cell(situation, policy, seed, duration_s, waiting_order)
        for situation, seed, policy in product(situations, _read_seeds(seeds), names)
    ]
    store = ResultStore(out, {name: tag if name == OURS else rivals_tag or tag for name in names})
    if not show_only:
        _run_missing(cells, store, traces=traces, num_jobs=jobs)
    return _report(store.measured(cells), shown, waiting_order, is_brief=brief)


def _run_missing(cells: Sequence[Cell], store: ResultStore, *, traces: Path, num_jobs: int) -> None:
    todo = store.missing(cells)
    notes_console().print(f"{len(cells) - len(todo)} of {len(cells)} results are in {store.path}")
    with progress(len(todo)) as on_done:
        run_cells(todo, store, traces=traces, num_jobs=num_jobs, on_done=on_done)


def _report(measured: Situations, tables: Sequence[Table], waiting_order: str, *, is_brief: bool) -> Report:
    shown, lines = [], []
    for table in tables:
        if any(situation.table is table for situation in measured):
            shown += [] if is_brief else [show.all_numbers(table, measured, waiting_order)]
            shown.append(show.verdicts(table, measured, waiting_order))
            lines.append(show.count_verdicts(table, measured))
    records = {"situations": [show.record(situation, means) for situation, means in measured.items()]}
    return Report(shown, records, lines=lines, caveats=CAVEATS)


def _chosen(tables: Sequence[Table], only: str) -> list[Situation]:
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise OptionError(f"--only {only} is no regular expression: {error}") from error
    chosen = [
        situation for situation in all_situations() if situation.table in tables and pattern.search(situation.name)
    ]
    if not chosen:
        raise OptionError(f"--only {only} leaves no situation: see all their names with --list")
    return chosen


def _read_seeds(text: str) -> list[int]:
    try:
        return sorted({int(number) for number in text.split(",")})
    except ValueError as error:
        raise OptionError(f"--seeds {text} is not a list of whole numbers: separate them by commas") from error

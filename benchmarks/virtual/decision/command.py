"""Our routing decision against every rival's, in the simulator, with a verdict for each situation."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.command import TRACES, make_app, measurement
from benchmarks.harness.report import VIRTUAL_TIME, Report
from benchmarks.virtual.decision import show
from benchmarks.virtual.decision.results import key, means, read_results, run_cells
from benchmarks.virtual.decision.situation import Cell, Situation, Table
from benchmarks.virtual.decision.situations import all_situations
from benchmarks.virtual.decision.verdict import OURS, RIVALS
from loadtests.replay.generators import DURATION_S
from loadtests.replay.options import OptionError, read_policies
from loadtests.replay.rivals.table import installed_names
from loadtests.report.console import check_output, notes_console, progress

app = make_app()


@app.command()
@measurement
def main(  # noqa: PLR0913  one for each option
    tables: Annotated[list[Table] | None, typer.Argument(help="Default: all of them.")] = None,
    *,
    out: Annotated[Path, typer.Option(help="JSON lines; what is there already is not run again.")],
    policies: Annotated[
        str | None, typer.Option(help="Separated by commas; default: ours, and rivals whose packages are installed.")
    ] = None,
    only: Annotated[str, typer.Option(help="Regular expression that a situation's name has.")] = "",
    seeds: Annotated[str, typer.Option(help="Separated by commas.")] = "1,2,3",
    duration_s: Annotated[float, typer.Option(min=1, help="Seconds of arrivals that a generator makes.")] = DURATION_S,
    traces: Annotated[Path, typer.Option(help="The folder of recorded traces.")] = TRACES,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 2,
    names_only: Annotated[bool, typer.Option("--list", help="Only the names of the situations.")] = False,
) -> Report:
    """Judge our decision against every rival's, in the simulator."""
    check_output("--out", out)
    names = read_policies(policies or ",".join(name for name in (OURS, *RIVALS) if name in installed_names()))
    situations = _chosen(tables or list(Table), only)
    if names_only:
        return Report((), {}, lines=[f"{situation.table}: {situation.name}" for situation in situations])
    cells = [
        Cell(situation, policy, seed, duration_s)
        for situation, seed, policy in product(situations, _read_seeds(seeds), names)
    ]
    _run_missing(cells, out, traces=traces, num_jobs=jobs)
    return show.report(means(cells, out), caveats=VIRTUAL_TIME)


def _run_missing(cells: Sequence[Cell], out: Path, *, traces: Path, num_jobs: int) -> None:
    kept = read_results(out)
    missing = [cell for cell in cells if key(cell) not in kept]
    notes_console().print(f"{len(cells) - len(missing)} of {len(cells)} results are in {out}")
    with progress(len(missing)) as on_done:
        run_cells(missing, out, traces=traces, num_jobs=num_jobs, on_done=on_done)


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

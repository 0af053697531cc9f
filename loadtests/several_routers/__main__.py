"""`python -m loadtests.several_routers`. Thin: parse, run, print."""

import json
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from loadtests import report
from loadtests.replay.trace import TraceError
from loadtests.several_routers import agreement, faults, restart
from loadtests.several_routers.setup import Setup

DEFAULT_TRACE = Path(__file__).parents[2] / "../shared/data/traces/mooncake_conversation_first60.jsonl.zst"


class Experiment(StrEnum):
    """What can be run."""

    AGREEMENT = "agreement"
    FAULTS = "faults"
    RESTART = "restart"


EXPERIMENT_TO_RUN: dict[Experiment, Callable[[Setup], Iterable[Any]]] = {
    Experiment.AGREEMENT: agreement.run,
    Experiment.FAULTS: faults.run,
    Experiment.RESTART: restart.run,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    experiments: Annotated[list[Experiment] | None, typer.Argument(help="Default: all of them.")] = None,
    *,
    trace: Annotated[Path, typer.Option(help="JSON lines in Mooncake's format, plain or .zst.")] = DEFAULT_TRACE,
    load: Annotated[list[float], typer.Option(min=0.01, help="May be repeated.")] = [0.8],  # noqa: B006  typer copies
    replicas: Annotated[int, typer.Option(min=1)] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case, with seeds from 1 on.")] = 1,
    spread_evenly: Annotated[bool, typer.Option(help="How requests of one stamp of the trace are spread.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the tables there too.")] = None,
) -> None:
    """Replay a trace in virtual time through several production routers in front of simulated engines."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    tables = []
    for experiment in experiments or list(Experiment):
        for each_load in load:
            setup = Setup(trace, each_load, replicas, range(1, seeds + 1), is_spread_evenly=spread_evenly)
            title = f"{experiment}: {setup}"
            with console.status(title):
                try:
                    rows = list(EXPERIMENT_TO_RUN[experiment](setup))
                except TraceError as error:
                    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", style="red")
                    raise typer.Exit(1) from error
            console.print(report.as_table(title, rows))
            tables.append(report.as_json(title, rows))
    if json_file is not None:
        json_file.write_text(json.dumps(tables, indent=1))


if __name__ == "__main__":
    app()

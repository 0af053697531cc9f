"""`python -m benchmarks rivals`. Thin: parse, run, print."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.harness import rows as report
from benchmarks.virtual.rivals import comparison
from benchmarks.virtual.several_routers.command import DEFAULT_TRACE
from benchmarks.virtual.several_routers.setup import Setup
from loadtests.replay.rivals.table import POLICY_NAMES, installed_names
from loadtests.replay.trace import TraceError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def check_policies(names: list[str] | None) -> list[str]:
    """Names from the command line."""
    unknown = [name for name in names or () if name not in POLICY_NAMES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: use some of {', '.join(POLICY_NAMES)}")
    return names or list(installed_names())


@app.command()
def main(
    policies: Annotated[
        list[str], typer.Argument(help="Default: every one whose package is installed.", callback=check_policies)
    ] = [],  # noqa: B006  typer copies
    *,
    trace: Annotated[Path, typer.Option(help="JSON lines in Mooncake's format, plain or .zst.")] = DEFAULT_TRACE,
    load: Annotated[float, typer.Option(min=0.01)] = 0.8,
    replicas: Annotated[int, typer.Option(min=1)] = 8,
    kv_tokens: Annotated[int, typer.Option(min=1, help="KV capacity of each replica.")] = 500_000,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each case, with seeds from 1 on.")] = 1,
    spread_evenly: Annotated[bool, typer.Option(help="How requests of one stamp of the trace are spread.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table there too.")] = None,
) -> None:
    """Replay a trace in virtual time under every policy, with one production router in front of simulated engines."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    setup = Setup(trace, load, replicas, range(1, seeds + 1), is_spread_evenly=spread_evenly)
    title = f"{setup}, {kv_tokens:,} KV tokens each"
    with console.status(title):
        try:
            rows = list(comparison.run(setup, policies, kv_tokens=kv_tokens))
        except TraceError as error:
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", style="red")
            raise typer.Exit(1) from error
    console.print(report.as_table(title, rows))
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(title, rows), indent=1))

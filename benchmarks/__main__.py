"""The command line of all claims.

python -m benchmarks                     lists the claims
python -m benchmarks CLAIM [options]     measures one
python -m benchmarks CLAIM --help        says which options it has
"""

import sys
from importlib import import_module
from itertools import groupby

import typer
from rich.console import Console

from benchmarks.claims import CLAIMS
from loadtests.report.console import fail


def main(arguments: list[str]) -> None:
    """List the claims, or measure the one that is named first."""
    if not arguments or arguments[0] in {"--help", "-h"}:
        list_claims()
        return
    name, *options = arguments
    if name not in CLAIMS:
        fail(f"there is no claim {name!r}: use one of {', '.join(CLAIMS)}")
    app: typer.Typer = import_module(CLAIMS[name].module).app
    app(args=options, prog_name=f"python -m benchmarks {name}")


def list_claims() -> None:
    """Print one line for each claim, grouped by what they need."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("python -m benchmarks CLAIM [options]", markup=False)
    width = max(map(len, CLAIMS))
    for need, claims in groupby(CLAIMS.values(), key=lambda claim: claim.need):
        console.print(f"\nneeds {need}:")
        for claim in claims:
            console.print(f"  {claim.name:{width}}  {claim.asks}", markup=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except typer.Exit as ended:
        sys.exit(ended.exit_code)

"""The `warmroute` command line: all groups of commands together. A command parses, calls, prints, and fails in one
sentence.
"""

from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from serve_app import extras
from warmroute import deploy, keys, measure, observe, serve, steer
from warmroute.terminal import fail


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  a class that Typer keeps to itself; whatever a command returns
        """Run a command; one whose packages are not installed fails in a sentence, too."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            sentence = extras.remedy(error)
            if sentence is None:
                raise
            fail(sentence)


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for _module in (serve, steer, observe, measure, deploy):
    app.add_typer(_module.group)
app.add_typer(keys.group, name="keys", rich_help_panel=keys.PANEL)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer's way
    if wanted:
        typer.echo(f"warmroute {version('warmroute')}")
        raise typer.Exit


@app.callback()
def main(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Prompt caching for self-hosted LLMs: each request goes to the replica that most likely has its prefix cached."""

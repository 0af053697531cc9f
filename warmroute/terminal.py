"""What all commands share in a terminal: the console, arguments of the same meaning, and failure in one sentence."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from router.policies import POLICY_NAMES
from serve_app.settings.load import SettingsError, load_settings
from serve_app.settings.schema import Settings

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 120  # tables in a log file need no narrow terminal's width

POLICIES = ", ".join(POLICY_NAMES)
ConfigArgument = Annotated[Path, typer.Argument(help="A settings file; see configs/.")]
DashboardOption = Annotated[
    str | None,
    typer.Option("--dashboard", help="URL of the Ray dashboard; default: the cluster that `serve` started here."),
]
ApplicationOption = Annotated[str | None, typer.Option(help="Serve application; default: the local one.")]
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Context settings of commands that have a command line of their own, which is loaded when it is needed."""


def fail(message: str) -> NoReturn:
    """Print the sentence and end with status 1."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {escape(message)}")
    raise typer.Exit(1)


def load(config: Path) -> Settings:
    """The settings of a file; a fault in them ends the command."""
    try:
        return load_settings(config)
    except SettingsError as error:
        fail(str(error))


def check_policies(what: str, names: list[str]) -> None:
    """End the command if a name is no policy's."""
    for name in names:
        if name not in POLICY_NAMES:
            fail(f"{what} {name} does not exist: use {POLICIES}")

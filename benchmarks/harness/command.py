"""A claim's command: its function measures and returns a report; everything that all claims share is done here."""

import functools
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.claims import CLAIMS
from benchmarks.harness.report import Report, document, markdown_page, print_report
from loadtests.report.console import check_output, fail, make_console

JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the report with every record to this file.")]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print the report as a page of Markdown.")]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same requests.")]
DataOption = Annotated[Path, typer.Option(help="The folder of recorded texts.")]
TraceOption = Annotated[Path, typer.Option(help="A trace: JSON lines in Mooncake's format, plain or .zst.")]

TEXTS = Path("../shared/data/texts")
TRACES = Path("../shared/data/traces")
CONVERSATION_TRACE = TRACES / "mooncake_conversation_first60.jsonl.zst"

PACKAGES = ("benchmarks", "loadtests", "router", "serve_app")
"""Packages whose exceptions have messages for users."""


def make_app(about: str | None = None) -> typer.Typer:
    """The commands of a claim."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=about)


def measurement(measure: Callable[..., Report]) -> Callable[..., None]:
    """The command that measures, presents the report, and ends with exit code 1 where the claim did not hold.

    It has the options of the function, and `--json` and `--markdown`.
    """

    @functools.wraps(measure)
    def command(*, json_file: Path | None, markdown: bool, **options: Any) -> None:  # noqa: ANN401
        with failures_told():
            check_output("--json", json_file)
            report = measure(**options)
        if markdown:
            claim = next(claim for claim in CLAIMS.values() if claim.module == measure.__module__)
            typer.echo(markdown_page(report, claim))
        else:
            print_report(report, make_console())
        if json_file is not None:
            json_file.write_text(json.dumps(document(report), indent=1))
        if report.faults:
            raise typer.Exit(1)

    return _with_options(command, measure, {"json_file": (JsonOption, None), "markdown": (MarkdownOption, False)})


def _with_options(
    command: Callable[..., None], measure: Callable[..., Report], added: dict[str, tuple[Any, object]]
) -> Callable[..., None]:
    """The command with a function's parameters, which typer reads, and some more."""
    signature = inspect.signature(measure)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in added.items()
    ]
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *more], return_annotation=None
    )
    command.__annotations__ = {**measure.__annotations__, **{name: kind for name, (kind, _) in added.items()}}
    return command


@contextmanager
def failures_told() -> Iterator[None]:
    """An exception of our own becomes one sentence and exit code 1; any other is a defect, and keeps its traceback."""
    try:
        yield
    except ExceptionGroup as group:  # of tasks that ran at the same time
        ours, others = group.split(is_ours)
        if ours is None or others is not None:
            raise
        fail("; ".join(map(str, ours.exceptions)))
    except Exception as error:
        if not is_ours(error):
            raise
        fail(str(error))


def is_ours(error: BaseException) -> bool:
    """Whether an exception's message is meant for users."""
    return type(error).__module__.partition(".")[0] in PACKAGES

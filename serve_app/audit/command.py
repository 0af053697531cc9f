"""`warmroute audit`. Thin: parse, run, print."""

import asyncio
import difflib
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TextIO

import orjson
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from serve_app.audit import report_html, report_json, report_text
from serve_app.audit.audit import Audit, Options, audit
from serve_app.audit.checklist import checklist
from serve_app.audit.kinds import KINDS
from serve_app.audit.learned import MIN_TOKENS
from serve_app.audit.logged_request import LoggedRequest
from serve_app.audit.prices import PriceError, Prices
from serve_app.extras import AUDIT_MODULES, MissingExtraError, require
from serve_app.settings.load import SettingsError, load_settings
from serve_app.settings.schema import Settings

CONFIG = Path("configs/cpu-demo.yaml")
BELOW_TARGET, UNUSABLE = 1, 2
"""Exit statuses."""
HIT_RATE_TARGET = 0.7
"""Of the checklist, where none is given."""
MAX_DIFFS = 200
DEFAULT_BLOCK_SIZE = 16
"""vLLM's."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(  # noqa: PLR0913  one for each option
    files: Annotated[list[Path], typer.Argument(help="JSON lines of OpenAI or Anthropic requests; also .gz and .zst.")],
    *,
    config: Annotated[Path, typer.Option(help="Settings, for the model's tokenizer and chat template.")] = CONFIG,
    kv_tokens: Annotated[
        int, typer.Option(min=1, help="Of the cache through which prompts are replayed.")
    ] = 10_000_000,
    block_size: Annotated[int | None, typer.Option(min=1, help="Tokens of a block; default: the settings'.")] = None,
    min_tokens: Annotated[int, typer.Option(min=1, help="The shortest prefix that a provider caches.")] = MIN_TOKENS,
    prices: Annotated[Path | None, typer.Option(help="YAML of own prices; default: the public ones.")] = None,
    fail_under: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 1 if the hit rate, as it is, is lower.")
    ] = None,
    as_checklist: Annotated[bool, typer.Option("--checklist", help="Print the production checklist only.")] = False,
    fix: Annotated[Path | None, typer.Option(help="Write all requests there, in normal form.")] = None,
    diff: Annotated[
        Path | None, typer.Option(help=f"Write what that changes in the first {MAX_DIFFS} requests.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all of it there.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with pictures there.")] = None,
) -> None:
    """Say why the prompts in FILES do not share their prefixes, what that costs, and how to fix it."""
    console = report_text.make_console()
    try:
        require(*AUDIT_MODULES, "ray", "vllm")  # vLLM's own code renders and tokenises
        settings = load_settings(config)
        known_prices = Prices() if prices is None else Prices.read(prices)
        for path in files:
            path.open("rb").close()
        with ExitStack() as stack:
            on_fixed = _writer(stack, fix, diff)
            options = Options(kv_tokens, partial(_saved, known_prices), min_tokens=min_tokens)
            found = _run(files, settings, block_size, options, on_fixed)
    except (SettingsError, PriceError, OSError, MissingExtraError) as error:
        _fail(str(error))
    if not found.as_is.num_requests:
        for line in report_text.flaw_lines(found):
            console.print(line)
        _fail(
            f"no request could be read in {', '.join(map(str, files))}: a line is a request's body, or has it as `body`"
        )
    items = checklist(
        found, min_tokens=min_tokens, hit_rate_target=HIT_RATE_TARGET if fail_under is None else fail_under
    )
    for part in (report_text.checklist_table(items),) if as_checklist else report_text.as_text(found, KINDS):
        console.print(part)
    if json_file is not None:
        json_file.write_text(json.dumps(report_json.as_json(found, KINDS, items), indent=1))
    if html_file is not None:
        html_file.write_text(report_html.as_html(found, KINDS, items))
    if fail_under is not None and found.as_is.hit_rate < fail_under:
        typer.echo(f"The hit rate is {found.as_is.hit_rate:.3f}, {fail_under:g} was wanted.", err=True)
        raise typer.Exit(BELOW_TARGET)


def _run(
    files: list[Path],
    settings: Settings,
    block_size: int | None,
    options: Options,
    on_fixed: Callable[[LoggedRequest, dict[str, Any]], None] | None,
) -> Audit:
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from serve_app.audit.token_reader import TokenReader
    from serve_app.settings import vllm_options

    llm = vllm_options.with_absolute_model_path(settings).llm
    size = block_size or llm.get("engine_kwargs", {}).get("block_size") or DEFAULT_BLOCK_SIZE
    tokens = TokenReader(llm, block_size=size)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=report_text.make_console(stderr=True), transient=True) as progress:
        task = progress.add_task("Reading", total=2 * sum(path.stat().st_size for path in files))
        return asyncio.run(
            audit(files, tokens, options, on_read=lambda num: progress.advance(task, num), on_fixed=on_fixed)
        )


def _saved(prices: Prices, model: str) -> float | None:
    price = prices.of(model)
    return None if price is None else price.saved


def _writer(
    stack: ExitStack, fix: Path | None, diff: Path | None
) -> Callable[[LoggedRequest, dict[str, Any]], None] | None:
    if fix is None and diff is None:
        return None
    fixed_file = None if fix is None else stack.enter_context(fix.open("wb"))
    diff_file = None if diff is None else stack.enter_context(diff.open("w"))
    num_diffs = 0

    def write(request: LoggedRequest, body: dict[str, Any]) -> None:
        nonlocal num_diffs
        if fixed_file is not None:
            fixed_file.write(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))
        if diff_file is not None and body is not request.body and num_diffs < MAX_DIFFS:
            num_diffs += 1
            _write_diff(diff_file, request, body)

    return write


def _write_diff(file: TextIO, request: LoggedRequest, body: dict[str, Any]) -> None:
    before, after = (json.dumps(each, indent=1, ensure_ascii=False).splitlines() for each in (request.body, body))
    name = str(request.place)
    file.writelines(
        f"{line}\n" for line in difflib.unified_diff(before, after, name, f"{name} fixed", lineterm="", n=1)
    )


def _fail(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(UNUSABLE)

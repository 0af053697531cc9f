"""How well `warmroute audit` finds what is wrong with prompts, and what it finds where nothing is wrong.

There are logs of 18 requests for each defect: six real conversations of one application with a real system prompt and
real tools, into which one defect of one kind was put; and as many logs without any. Recall: of the logs with a kind's
defect, the share in which that kind is found. Precision: of the logs in which a kind is found, the share that have it.
"""

import asyncio
import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.progress import track

from benchmarks.harness.command import TEXTS, DataOption, SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.report import Report
from benchmarks.virtual.audit_corpus.defects import KIND_TO_SEED, Case, cases
from benchmarks.virtual.audit_corpus.texts import Texts
from loadtests.report.console import notes_console
from loadtests.report.tables import make_table
from serve_app.audit.audit import Audit, Options, TokenSource, audit
from serve_app.audit.kind import KindName
from serve_app.settings.load import load_settings

BLOCK_SIZE = 16
KV_TOKENS = 10_000_000

app = make_app()


@app.command()
@measurement
def main(
    data: DataOption = TEXTS,
    config: Annotated[Path, typer.Option(help="Settings, for tokenizer and chat template.")] = Path(
        "configs/cpu-demo.yaml"
    ),
    each: Annotated[int, typer.Option(min=1, help="Logs of each kind, and without a defect.")] = 20,
    seed: SeedOption = 1,
) -> Report:
    """Print precision and recall by kind, and the false alarms."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from serve_app.audit.token_reader import TokenReader
    from serve_app.settings import vllm_options

    try:
        corpus = cases(Texts(data), num_each=each, seed=seed)
    except OSError as error:
        raise MeasurementError(f"the texts are not there: {error}") from error
    tokens = TokenReader(vllm_options.with_absolute_model_path(load_settings(config)).llm, block_size=BLOCK_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log.jsonl")
        found = [
            (case, _kinds(_audit(case, path, tokens)))
            for case in track(corpus, "Logs", console=notes_console(), transient=True)
        ]
    return _report(found)


def _report(found: Sequence[tuple[Case, set[KindName]]]) -> Report:
    table = make_table(
        "Kinds by what was put in", left=("kind",), right=("logs", "found", "recall", "alarms", "precision")
    )
    results = {kind.value: _result(kind, found) for kind in KIND_TO_SEED}
    for kind, figures in results.items():
        table.add_row(kind, *(f"{figure:.3f}" if isinstance(figure, float) else str(figure) for figure in figures))
    wrong = [
        f"{case.name}: found {', '.join(sorted(kinds)) or 'nothing'}"
        for case, kinds in found
        if kinds != {case.kind} - {None}
    ]
    clean = [kinds for case, kinds in found if case.kind is None]
    num_prompts = sum(len(case.bodies) for case, _ in found if case.kind is None)
    alarms = Counter(kind.value for kinds in clean for kind in kinds)
    total = (
        f"{len(clean)} logs without a defect, {num_prompts:,} prompts: {alarms.total()} false alarms, "
        f"{1000 * alarms.total() / num_prompts:.2f} a thousand prompts ({dict(alarms) or 'none'})"
    )
    records = {"results": results, "clean_alarms": alarms, "clean_prompts": num_prompts}
    return Report([table], records, lines=[*wrong, total])


def _audit(case: Case, path: Path, tokens: TokenSource) -> Audit:
    path.write_bytes(b"".join(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE) for body in case.bodies))
    options = Options(KV_TOKENS, lambda _: None)
    return asyncio.run(audit([path], tokens, options, on_read=lambda _: None))


def _kinds(done: Audit) -> set[KindName]:
    if done.flaws.flaw_to_count:
        raise SystemExit(f"not every request was read: {json.dumps(done.flaws.flaw_to_count)}")
    return {finding.kind for finding in done.findings}


def _result(kind: KindName, found: Sequence[tuple[Case, set[KindName]]]) -> tuple[int, int, float, int, float]:
    """Logs with the defect, those in which it was found, their share; alarms, and the share of the right ones."""
    seeded = [kinds for case, kinds in found if case.kind is kind]
    num_found = sum(kind in kinds for kinds in seeded)
    num_alarms = sum(kind in kinds for _, kinds in found)
    return len(seeded), num_found, num_found / len(seeded), num_alarms, num_found / num_alarms if num_alarms else 1.0

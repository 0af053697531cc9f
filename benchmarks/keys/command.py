"""Are the router's token ids those of the replica, on every endpoint, for models of three families?"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.harness import vllm_server
from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.keys.bodies import Question, questions
from benchmarks.keys.engine import MODEL_NAME, llm_settings
from benchmarks.keys.models import Family, Model, build, build_with
from benchmarks.keys.replica import Replica, ReplicaPrompt
from benchmarks.keys.result import FamilyResult, KeyComparison, as_json, lines, result_table
from benchmarks.keys.router import Pass, Reader, Reading
from benchmarks.keys.texts import Source, sample
from loadtests.report.console import notes_console
from loadtests.workloads.recorded_texts import TEXTS

CONCURRENCY = 8
DEFAULT_FOLDER = Path(".warmroute/key-parity")

app = make_app()


@app.command()
@measurement
def main(
    prompts: Annotated[
        int, typer.Option(min=len(Source), help="Dialogues; each is sent to all four endpoints.")
    ] = 1000,
    family: Annotated[list[Family] | None, typer.Option(help="Only these; all by default.")] = None,
    tokenizer: Annotated[
        list[Path] | None, typer.Option(help="In their place: a model's tokenizer.json, with ChatML's template.")
    ] = None,
    texts: Annotated[Path, typer.Option(help="The folder of the texts.")] = TEXTS,
    folder: Annotated[Path, typer.Option(help="For models and the engines' logs.")] = DEFAULT_FOLDER,
    seed: SeedOption = 1,
) -> Report:
    """Read prompts as the router does, ask vLLM's own server what it got for the same bodies, and compare."""
    console = notes_console()
    dialogues = sample(texts, num_prompts=prompts, rng=Random(f"key parity {seed}"))
    asked = list(questions(dialogues, MODEL_NAME))
    models = (
        {path.stem: build_with(path, folder) for path in tokenizer}
        if tokenizer
        else {str(name): build(name, folder) for name in family or Family}
    )
    results = [_compare(name, model, asked, folder, console) for name, model in models.items()]
    faults = [fault for result in results for fault in result.faults()]
    return Report([result_table(results)], {"families": as_json(results)}, faults, lines=list(lines(results)))


def _compare(name: str, model: Model, asked: Sequence[Question], folder: Path, console: Console) -> FamilyResult:
    llm = llm_settings(model)
    reader = Reader(llm)
    with Progress(console=console, transient=True) as progress:
        readings = asyncio.run(_read(reader, asked, progress))
        log, options = folder / f"{name}.log", vllm_server.options_of(llm)
        with vllm_server.running(options, variables=vllm_server.variables_of(llm), log=log) as url:
            reports = asyncio.run(_report(url, llm, asked, progress))
    comparisons = [KeyComparison(*each) for each in zip(asked, readings, reports, strict=True)]
    return FamilyResult(name, comparisons, reader.tokenizer, is_exact=reader.is_exact)


async def _read(reader: Reader, asked: Sequence[Question], progress: Progress) -> list[dict[Pass, Reading]]:
    readings: list[dict[Pass, Reading]] = [{} for _ in asked]
    task = progress.add_task("the router reads", total=len(asked) * len(Pass))
    async for each, place, reading in reader.read_all(asked):
        readings[place][each] = reading
        progress.advance(task)
    return readings


async def _report(url: str, llm: dict[str, Any], asked: Sequence[Question], progress: Progress) -> list[ReplicaPrompt]:
    task = progress.add_task("the replica answers", total=len(asked))
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        replica = Replica(client, block_size=llm["engine_kwargs"]["block_size"])
        return await replica.report_all(asked, concurrency=CONCURRENCY, on_report=lambda: progress.advance(task))

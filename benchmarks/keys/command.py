"""Are the router's token ids the replica's, on every endpoint, for models of three families? Starts its own engines.

python -m benchmarks key_parity --prompts 1000
python -m benchmarks key_parity --prompts 100 --family llama3
python -m benchmarks key_parity --prompts 100 --tokenizer qwen3.json --tokenizer deepseek.json
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.harness.running_server import JsonOption, LiveError, SeedOption, fail, make_console, verdict, write_json
from benchmarks.keys.bodies import Question, questions
from benchmarks.keys.engine import MODEL_NAME, llm_settings, running_engine
from benchmarks.keys.models import Family, Model, build, build_with
from benchmarks.keys.replica import Replica, Report
from benchmarks.keys.result import Comparison, FamilyResult, as_json, lines, result_table
from benchmarks.keys.router import Pass, Reader, Reading
from benchmarks.keys.texts import Source, sample
from loadtests.workloads.recorded_texts import TEXTS, TextsError

CONCURRENCY = 8
DEFAULT_FOLDER = Path(".warmroute/key-parity")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
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
    json_file: JsonOption = None,
) -> None:
    """Read prompts as the router does, ask vLLM's own server what it got for the same bodies, and compare."""
    console = make_console()
    try:
        dialogues = sample(texts, num_prompts=prompts, rng=Random(f"key parity {seed}"))
        asked = list(questions(dialogues, MODEL_NAME))
        models = (
            {each.stem: build_with(each, folder) for each in tokenizer}
            if tokenizer
            else {str(each): build(each, folder) for each in family or Family}
        )
        results = [_compare(name, model, asked, folder, console) for name, model in models.items()]
    except (TextsError, LiveError) as error:
        fail(str(error))
    console.print(result_table(results))
    for line in lines(results):
        console.print(line)
    write_json(json_file, as_json(results))
    verdict(console, [fault for result in results for fault in result.faults()])


def _compare(name: str, model: Model, asked: Sequence[Question], folder: Path, console: Console) -> FamilyResult:
    llm = llm_settings(model)
    reader = Reader(llm)
    with Progress(console=console, transient=True) as progress:
        readings = asyncio.run(_read(reader, asked, progress))
        with running_engine(llm, log=folder / f"{name}.log") as url:
            reports = asyncio.run(_report(url, llm, asked, progress))
    comparisons = [Comparison(*each) for each in zip(asked, readings, reports, strict=True)]
    return FamilyResult(name, comparisons, reader.tokenizer, is_exact=reader.is_exact)


async def _read(reader: Reader, asked: Sequence[Question], progress: Progress) -> list[dict[Pass, Reading]]:
    readings: list[dict[Pass, Reading]] = [{} for _ in asked]
    task = progress.add_task("the router reads", total=len(asked) * len(Pass))
    async for each, place, reading in reader.read_all(asked):
        readings[place][each] = reading
        progress.advance(task)
    return readings


async def _report(url: str, llm: dict[str, Any], asked: Sequence[Question], progress: Progress) -> list[Report]:
    task = progress.add_task("the replica answers", total=len(asked))
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        replica = Replica(client, block_size=llm["engine_kwargs"]["block_size"])
        return await replica.report_all(asked, concurrency=CONCURRENCY, on_report=lambda: progress.advance(task))

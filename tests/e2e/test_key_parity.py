"""The router's token ids beside a real replica's: equal for every prompt, on every endpoint."""

import asyncio
from pathlib import Path
from random import Random

import httpx
import pytest

from benchmarks.keys.bodies import questions
from benchmarks.keys.models import Family
from benchmarks.keys.replica import Replica
from benchmarks.keys.result import FamilyResult, KeyComparison
from benchmarks.keys.router import Pass, Reader, Reading
from benchmarks.keys.texts import SHIPPED, sample
from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from serve_app.local.haproxy import replica_urls
from serve_app.messages.snapshot import short_id
from tests.e2e.conftest import demo_settings

NUM_PROMPTS = 60


def url_of_a_replica(run: LocalRun, application: RunningApplication) -> str:
    """One that is there now; other tests may have replaced those that were there first."""
    urls = replica_urls(run.run_dir)
    return next(urls[short_id(each)] for each in application.routers()[0].replicas if short_id(each) in urls)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # vLLM's own
def test_the_router_reads_the_tokens_that_the_replica_gets(
    run: LocalRun, application: RunningApplication, run_model: str
) -> None:
    """60 dialogues, each on four endpoints and in many ways; read fast, fast again, and plainly."""
    llm = demo_settings()["llm"]
    dialogues = sample(Path(), num_prompts=NUM_PROMPTS, rng=Random("e2e"), sources=SHIPPED)
    asked = list(questions(dialogues, run_model))
    reader = Reader(llm)
    url = url_of_a_replica(run, application)

    async def compare() -> list[KeyComparison]:
        readings: list[dict[Pass, Reading]] = [{} for _ in asked]
        async for each, place, reading in reader.read_all(asked):
            readings[place][each] = reading
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            replica = Replica(client, block_size=llm["engine_kwargs"]["block_size"])
            reports = await replica.report_all(asked, concurrency=4, on_report=lambda: None)
        return [KeyComparison(*each) for each in zip(asked, readings, reports, strict=True)]

    result = FamilyResult(Family.CHATML, asyncio.run(compare()), reader.tokenizer, is_exact=reader.is_exact)
    assert result.differences() == []
    assert list(result.faults()) == []
    assert result.tokenizer == "fastokens"
    assert any(comparison.readings[Pass.AGAIN].is_rendered_fast for comparison in result.comparisons)

"""The page and the JSON, of hand-made results."""

import json
import re
from typing import Any

import pytest

from loadtests.bench.report import BenchReport, as_json, banner, circumstances
from loadtests.bench.report_html import as_html
from loadtests.client.answers import Outcome
from serve_app.settings.schema import Settings
from tests.loadtests.bench.builders import chat, plan, record, result, results

COMMAND = "warmroute bench configs/x.yaml --workload chat"


def report(*, engine: str = "vllm", ended_early: str = "") -> BenchReport:
    """Ours twice as fast as round robin, three times; Ray's as fast."""
    routings = ("prefix_affinity", "round_robin", "ray_prefix")
    cells = [
        result(routing, number, ttft_s=ttft_s * (1 + number / 10), load=load)
        for routing, ttft_s in zip(routings, (0.5, 1.0, 0.5), strict=True)
        for number in range(3)
        for load in (0.5, 1.2)
    ]
    some = plan(workloads=[chat()], routings=routings)
    return BenchReport(some, Settings(llm={}), results(cells, engine=engine, ended_early=ended_early), COMMAND)


def test_the_page_has_everything_and_needs_nothing() -> None:
    """Numbers, ratios, verdicts, plots, circumstances; no script, no address to fetch from."""
    page = as_html(report())
    for text in (
        COMMAND,
        "chat, load 0.5: ahead of round_robin",
        "prefix_affinity / other, paired by repetition",
        "0.500 ±0.000",
        "Load 1.0",
        "seed 1",
        "As shipped, which under direct streaming",
        "mean TTFT, seconds",
        "requests a second within the SLO",
        "prefers-color-scheme: dark",
        "What each decides by",
        "token ids; what it and its peers sent; receipts of what was reused",
        "mean time to the last token, seconds",
    ):
        assert text in page, text
    assert page.count("<svg viewBox") >= 4 + 2
    assert not re.search(r"<script|<link|src=|href=|url\(|https?://", page)


def test_rows_come_in_the_plans_order() -> None:
    """Whatever the order in which the cells were measured."""
    some = report()
    shuffled = BenchReport(some.plan, some.settings, results(list(reversed(some.results.cells))), COMMAND)
    assert [(each.load, each.routing) for each in shuffled.rows()] == [
        (load, routing) for load in (0.5, 1.2) for routing in some.plan.routings
    ]
    assert [each.other for each in shuffled.comparisons()] == ["round_robin", "ray_prefix"] * 2


def test_one_load_is_drawn_as_dots() -> None:
    """Where a line would have one point, and no routing without an answer is drawn."""
    silent = record(outcome=Outcome.NO_ANSWER, status=None, ttft_s=None, prompt_tokens=0)
    cells = [result("prefix_affinity"), result("round_robin", records=[silent])]
    page = as_html(BenchReport(plan(workloads=[chat()], loads=(0.5,)), Settings(llm={}), results(cells), COMMAND))
    assert "<polyline" not in page
    assert "prefix_affinity 0.5" in page
    assert "nan<" not in page.replace(" ", "")
    assert "round_robin nan" not in page


def test_simulated_engines_are_said_loudly() -> None:
    """At the top and beside every workload's plots; with real ones not at all."""
    assert as_html(report(engine="simulated")).count("SIMULATED engines") == 2
    assert "SIMULATED" not in as_html(report())
    assert banner(report()) == ""


def test_the_json_has_every_record_and_the_verdicts() -> None:
    """And how it was run."""
    content = json.loads(as_json(report(engine="simulated")))
    assert content["command"] == COMMAND
    assert content["engine"] == "simulated"
    assert content["plan"]["workloads"] == ["chat"]
    assert len(content["cells"]) == 18
    assert content["cells"][0]["records"][0]["ttft_s"] == 0.5
    assert content["cells"][0]["numbers"]["hit_rate"] == 0.0
    assert [each["verdict"] for each in content["comparisons"] if each["other"] == "round_robin"] == ["ahead"] * 2
    assert content["capacities"][0]["requests_per_s"] == 20.0
    assert content["knowledge"]["round_robin"] == "nothing"
    assert "KV events" not in content["knowledge"]["prefix_affinity"]


@pytest.mark.parametrize("write", [as_html, as_json])
def test_no_text_of_a_prompt_is_reported(write: object) -> None:
    """Of the workload's texts, which the plan holds."""
    some = report()
    assert callable(write)
    written = write(some)
    texts = some.plan.workloads[0].texts
    for sentence in texts.sentences[:200]:
        assert sentence not in written
    for dialogue in (*texts.chats, *texts.agents):
        for message in dialogue.messages:
            content = message.get("content")
            assert not content or len(content) < 20 or content not in written


def test_what_to_be_wary_of_is_said() -> None:
    """An early end, warm caches at a cell's start, and how late requests were sent."""
    some = report(ended_early="interrupted")
    warm = result("round_robin", 0, records=[record(cached_tokens=64)])
    lines = "\n".join(
        circumstances(BenchReport(some.plan, some.settings, results([warm], ended_early="interrupted"), ""))
    )
    assert "Ended early: interrupted" in lines
    assert "In 1 cells the first request found something cached" in lines
    assert "1.0 ms after they were due" in lines


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        ({}, "shortest"),
        ({"replicas": {"waiting_order": "arrival"}}, "arrival"),
        ({"llm": {"engine_kwargs": {"scheduler_cls": "theirs.Own"}}}, "of theirs.Own"),
    ],
)
def test_the_waiting_order_is_said(settings: dict[str, Any], order: str) -> None:
    """That of all routings' engines: the settings', or that of a scheduler of the user's own."""
    some = report()
    own = Settings.model_validate({"llm": {}, **settings})
    line = f"Prompts wait in every routing's engines in the order {order}"
    assert line in circumstances(BenchReport(some.plan, own, some.results, ""))

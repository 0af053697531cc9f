"""The parts of the key parity measurement that need no engine: what is asked, what is reported, and what differs."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.vllm_server import command, options_of
from benchmarks.keys.bodies import ENDPOINT_TO_VARIATIONS, Endpoint, Question, questions
from benchmarks.keys.command import app
from benchmarks.keys.engine import llm_settings
from benchmarks.keys.models import Family, Model, build
from benchmarks.keys.replica import Replica, ReplicaPrompt
from benchmarks.keys.result import FamilyResult, KeyComparison, as_json, lines, result_table
from benchmarks.keys.router import Pass, Reader, Reading
from benchmarks.keys.texts import SHIPPED, Dialogue, Source, allocate, read, sample
from loadtests.report.console import make_console
from loadtests.workloads.recorded_texts import TextsError
from serve_app.prompt.body import is_anthropic

CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"to": "B"}'}}
TOOL = {"type": "function", "function": {"name": "find", "description": "Find.", "parameters": {"type": "object"}}}
TEXT = "nobody may read this"
DIALOGUE = Dialogue(
    Source.TAU,
    7,
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": TEXT},
        {"role": "assistant", "content": "Wait.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "10:04"},
        {"role": "assistant", "content": "At 10:04."},
        {"role": "user", "content": "Thanks"},
    ],
    [TOOL],
)


def shipped(num_prompts: int, seed: int = 1) -> list[Dialogue]:
    """Of what is in the repository."""
    return sample(Path(), num_prompts=num_prompts, rng=Random(seed), sources=SHIPPED)


def question(endpoint: Endpoint, **fields: Any) -> Question:
    """The plain one about the dialogue, with more fields."""
    plain = next(each for each in questions([DIALOGUE], "demo") if each.endpoint is endpoint)
    return Question(plain.source, plain.number, endpoint, plain.variation, plain.body | fields)


def test_every_source_is_asked_in_proportion() -> None:
    """One of each at least; a tenth of handmade ones; the sum is what was asked for."""
    sizes = dict.fromkeys(Source, 1_000) | {Source.TAU: 3_000, Source.MCP: 2, Source.HANDMADE: 39}
    shares = allocate(sizes, 1_000)
    assert sum(shares.values()) == 1_000
    assert shares == dict.fromkeys(Source, 120) | {Source.TAU: 360, Source.MCP: 1, Source.HANDMADE: 39}
    assert set(allocate(sizes, len(Source)).values()) == {1}


def test_the_same_seed_draws_the_same_dialogues() -> None:
    """And another seed others, each of them once."""
    assert shipped(30) == shipped(30)
    assert shipped(30) != shipped(30, seed=2)
    places = [(dialogue.source, dialogue.number) for dialogue in shipped(100)]
    assert len(set(places)) == len(places) == 100


def test_missing_texts_are_named(tmp_path: Path) -> None:
    """The folder, and whose texts were looked for there."""
    with pytest.raises(TextsError, match="does not hold the texts of oasst"):
        list(read(tmp_path, Source.OASST))


def test_a_tree_gives_every_path_to_something_a_human_said(tmp_path: Path) -> None:
    """Branches share their beginning."""
    answer = {"text": "yes", "role": "assistant", "replies": [{"text": "why?", "role": "prompter", "replies": []}]}
    tree = {"prompt": {"text": "is it?", "role": "prompter", "replies": [answer, answer | {"text": "no"}]}}
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "oasst_en_100_tree.jsonl.zst").write_bytes(_compressed(json.dumps(tree)))
    spoken = [[message["content"] for message in dialogue.messages] for dialogue in read(tmp_path, Source.OASST)]
    assert spoken == [["is it?"], ["is it?", "yes", "why?"], ["is it?", "no", "why?"]]


def _compressed(text: str) -> bytes:
    import zstandard

    return zstandard.compress(text.encode())


def test_each_dialogue_is_asked_on_each_endpoint_in_every_way() -> None:
    """Every second one in the plain way; together, in all ways there are."""
    asked = list(questions([DIALOGUE] * 60, "demo"))
    assert len(asked) == 240
    for endpoint, variations in ENDPOINT_TO_VARIATIONS.items():
        names = [each.variation for each in asked if each.endpoint is endpoint]
        assert set(names) == set(variations)
        assert names[::2] == ["plain"] * 30
    assert all(json.loads(json.dumps(each.body)) == each.body for each in asked)


def test_what_cannot_be_written_in_a_way_is_written_in_the_next() -> None:
    """A tool that must be called needs tools."""
    asked = list(questions([Dialogue(Source.OASST, 0, [{"role": "user", "content": "hi"}])] * 60, "demo"))
    assert len(asked) == 240
    assert not {each.variation for each in asked} & {"tool_choice required", "tool_choice any", "failed tools"}


def test_responses_have_items_for_messages() -> None:
    """Calls and their outputs by themselves, the system prompt apart, tools without a wrapper."""
    body = question(Endpoint.RESPONSES).body
    assert body["instructions"] == "Be kind."
    assert [item.get("type", item.get("role")) for item in body["input"]] == [
        "user",
        "assistant",
        "function_call",
        "function_call_output",
        "assistant",
        "user",
    ]
    assert body["tools"][0]["name"] == "find"


def test_messages_have_blocks_for_calls_and_results() -> None:
    """As Anthropic's API has no other form for them; and the router tells them by that."""
    body = question(Endpoint.MESSAGES).body
    assert body["system"] == "Be kind."
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use"]
    assert body["messages"][1]["content"][1]["input"] == {"to": "B"}
    assert body["messages"][2] == {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "10:04"}],
    }
    assert is_anthropic(body)
    assert not is_anthropic(question(Endpoint.CHAT).body)


def report(asked: Question, answer: Callable[[httpx.Request], httpx.Response]) -> ReplicaPrompt:
    """By a replica of blocks of four tokens that answers so."""

    async def ask() -> ReplicaPrompt:
        async with httpx.AsyncClient(base_url="http://replica", transport=httpx.MockTransport(answer)) as client:
            (reported,) = await Replica(client, block_size=4).report_all([asked], concurrency=1, on_report=lambda: None)
            return reported

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("endpoint", "wish", "answer"),
    [
        (Endpoint.CHAT, "return_token_ids", {"prompt_token_ids": [1, 2]}),
        (Endpoint.COMPLETIONS, "return_token_ids", {"choices": [{"prompt_token_ids": [1, 2]}]}),
        (Endpoint.RESPONSES, "enable_response_messages", {"input_messages": [{"message": "", "tokens": [1, 2]}]}),
    ],
)
def test_the_replica_is_asked_for_its_own_token_ids(endpoint: Endpoint, wish: str, answer: dict[str, Any]) -> None:
    """With the body that the router read, and that wish."""
    bodies = []

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json=answer)

    assert report(question(endpoint), handle) == ReplicaPrompt((1, 2))
    assert bodies == [{**question(endpoint).body, wish: True}]


@pytest.mark.parametrize("endpoint", Endpoint)
def test_a_refusal_is_reported_and_a_failure_is_not_hidden(endpoint: Endpoint) -> None:
    """4xx is an answer; 5xx is the end of the measurement."""
    assert report(question(endpoint), lambda _: httpx.Response(400, json={})) == ReplicaPrompt(None, 400)
    with pytest.raises(MeasurementError, match=f"{endpoint} answered 500"):
        report(question(endpoint), lambda _: httpx.Response(500))


def test_a_replica_that_reports_nothing_is_an_error() -> None:
    """An older vLLM, say."""
    with pytest.raises(MeasurementError, match="does not report"):
        report(question(Endpoint.CHAT), lambda _: httpx.Response(200, json={"prompt_token_ids": None}))


MESSAGE_TOKENS = list(range(9))


@pytest.mark.parametrize(
    ("counted", "cached", "is_proven"),
    [(9, 8, True), (8, 8, False), (9, 4, False)],
    ids=["as rendered", "another count", "not in the cache"],
)
def test_a_messages_rendered_ids_are_checked_with_the_engine(counted: int, cached: int, is_proven: bool) -> None:
    """By the count that the message itself reports, and by what the engine reuses for such ids with its salt."""
    asked = question(Endpoint.MESSAGES, cache_salt="own")

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/render"):
            return httpx.Response(200, json={"token_ids": MESSAGE_TOKENS})
        if request.url.path == Endpoint.MESSAGES:
            return httpx.Response(200, json={"usage": {"input_tokens": counted - 4, "cache_read_input_tokens": 4}})
        sent = json.loads(request.content)
        assert (sent["prompt"], sent["cache_salt"]) == (MESSAGE_TOKENS, "own")
        return httpx.Response(200, json={"usage": {"prompt_tokens_details": {"cached_tokens": cached}}})

    assert report(asked, handle) == ReplicaPrompt(tuple(MESSAGE_TOKENS), is_proven=is_proven)


def compare(
    replica: tuple[int, ...] | None, *, is_proven: bool = True, **read: tuple[int, ...] | None
) -> KeyComparison:
    """The router reads 1, 2, 3, unless it is said what else."""
    readings = {each: Reading(read.get(each.name.lower(), (1, 2, 3))) for each in Pass}
    return KeyComparison(question(Endpoint.CHAT), readings, ReplicaPrompt(replica, is_proven=is_proven))


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (compare((1, 2, 3)), []),
        (compare((1, 2, 3), again=(1, 9, 3)), ["again: router 3 tokens, replica 3, equal for the first 1"]),
        (compare((1, 2, 3), new=None), ["new: only the router has none"]),
        (
            compare((1, 2), again=(1, 2), plain=(1, 2)),
            ["new: router 3 tokens, replica 2, equal for the first 2"],
        ),
        (compare(None, new=None, again=None), ["plain: the replica refused it"]),
        (compare(None, new=None, again=None, plain=None), []),
        (
            compare((1, 2, 3), is_proven=False),
            ["the replica's answer contradicts the ids that it rendered"],
        ),
    ],
)
def test_a_difference_is_placed_and_measured(comparison: KeyComparison, expected: list[str]) -> None:
    """By source and number; its text stays out of the report."""
    differences = comparison.differences()
    assert [line.removeprefix(line[: line.index("plain") + 5]).lstrip(",: ") for line in differences] == expected
    assert all(line.startswith("/v1/chat/completions, tau_bench 7, plain") for line in differences)


def test_a_result_is_a_fault_where_anything_differs() -> None:
    """The table counts, the lines name the place, and neither has the text."""
    same, other = compare((1, 2, 3)), compare((1, 2, 4))
    result = FamilyResult(Family.CHATML, [same, other], "fastokens", is_exact=True)
    assert list(result.faults()) == ["chatml: 1 of 2 prompts differ"]
    assert list(FamilyResult(Family.CHATML, [same], "fastokens", is_exact=False).faults())
    assert not list(FamilyResult(Family.CHATML, [same], "fastokens", is_exact=True).faults())
    assert len(list(lines([result]))) == 1 + len(Pass)
    console = make_console()
    with console.capture() as printed:
        console.print(result_table([result]), *lines([result]))
    assert TEXT not in printed.get() + json.dumps(as_json([result]))


def test_the_engine_is_started_as_the_settings_say() -> None:
    """On the loopback interface only; a switch has no value."""
    started = " ".join(command(options_of(llm_settings(Model(Path("model"), {"tool_call_parser": "other"}))), port=1))
    for part in (
        "--host 127.0.0.1",
        "--port 1",
        "--block-size 32",
        "--tool-call-parser other",
        "--max-model-len 32768",
    ):
        assert part in started
    assert "--enforce-eager --" in started
    assert "override" not in started


def test_the_command_says_what_it_lacks(tmp_path: Path) -> None:
    """Before anything is started."""
    result = CliRunner().invoke(app, ["--texts", str(tmp_path)])
    assert result.exit_code == 1
    assert "does not hold the texts of tau_bench" in result.stderr


@pytest.mark.usefixtures("vllm")
@pytest.mark.filterwarnings("ignore")  # vLLM's own
@pytest.mark.parametrize("family", Family)
def test_what_is_fast_changes_no_token_ids(tmp_path: Path, family: Family) -> None:
    """Each body is read alike with a new memo of chats, a warm one, and plainly; and the short ways are taken."""
    reader, asked = Reader(llm_settings(build(family, tmp_path))), list(questions(shipped(40), "demo"))

    async def read_all() -> list[tuple[Pass, int, Reading]]:
        return [each async for each in reader.read_all(asked)]

    place_to_ids: dict[int, set[Any]] = {}
    readings = asyncio.run(read_all())
    for _, place, reading in readings:
        place_to_ids.setdefault(place, set()).add(reading.ids)
    assert len(place_to_ids) == len(asked)
    assert [place for place, ids in place_to_ids.items() if len(ids) > 1 or None in ids] == []
    assert reader.is_exact
    assert reader.tokenizer == "fastokens"
    assert any(reading.is_rendered_fast for _, _, reading in readings)
    assert not any(reading.is_tokenized_fast for each, _, reading in readings if each is Pass.PLAIN)
    fast = [reading.is_tokenized_fast for each, _, reading in readings if each is Pass.NEW]
    assert sum(fast) > 0.9 * len(fast)  # the others ask for token ids, or to be truncated

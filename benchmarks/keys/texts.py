"""Real prompts, of the texts under ../shared/data/texts, and some of our own making. Seeded; never printed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

import zstandard

from benchmarks.keys.handmade import DIALOGUES, QUESTIONS
from loadtests.workloads.recorded_texts import TextsError, read_json_lines, read_text
from serve_app.demo.model import WORKLOAD

MCP_TOOLS = 12
"""Tools of one tenant; all 117 would not fit the model's context."""
RUN_LENGTH = 12
"""A session of tau_bench has as many turns."""

Message = dict[str, Any]


class Source(StrEnum):
    """Where a dialogue comes from; named in the report, where its text is not."""

    TAU = "tau_bench"
    TAU2 = "tau2_bench"
    BFCL = "bfcl"
    MT_BENCH = "mt_bench"
    OASST = "oasst"
    MCP = "mcp"
    SUPPORT_DESK = "support_desk"
    HANDMADE = "handmade"


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages and tools as the chat API takes them; the assistant is to answer."""

    source: Source
    number: int
    """Number among the dialogues of this source."""
    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()


SHIPPED = (Source.SUPPORT_DESK, Source.HANDMADE)
"""Those that are part of this repository; the others need the folder of the texts."""


def sample(folder: Path, *, num_prompts: int, rng: Random, sources: Sequence[Source] = tuple(Source)) -> list[Dialogue]:
    """Dialogues drawn from all sources in proportion, every source present; in the sources' own order.

    They are drawn as runs of neighbours, which have most of their prefixes in common, as an hour of traffic has.

    Raises:
        TextsError: the folder does not hold the texts.

    """
    by_source = {source: list(read(folder, source)) for source in sources}
    shares = allocate({source: len(dialogues) for source, dialogues in by_source.items()}, num_prompts)
    return [
        dialogues[number]
        for source, dialogues in by_source.items()
        for number in _draw(len(dialogues), shares[source], rng)
    ]


def _draw(size: int, num_drawn: int, rng: Random) -> list[int]:
    """Numbers below `size`, drawn in runs."""
    starts = list(range(0, size, RUN_LENGTH))
    rng.shuffle(starts)
    drawn = [number for start in starts for number in range(start, min(start + RUN_LENGTH, size))]
    return sorted(drawn[:num_drawn])


def allocate(sizes: Mapping[Source, int], num_prompts: int) -> dict[Source, int]:
    """How many of each: one at least, the recorded ones in proportion, the handmade ones up to a tenth of all."""
    recorded = {source: size for source, size in sizes.items() if source is not Source.HANDMADE}
    shares = {Source.HANDMADE: min(sizes[Source.HANDMADE], max(1, num_prompts // 10))}
    left = num_prompts - sum(shares.values())
    shares |= {source: max(1, left * size // sum(recorded.values())) for source, size in recorded.items()}
    largest = max(recorded, key=recorded.__getitem__)
    shares[largest] += num_prompts - sum(shares.values())
    return {source: min(shares[source], size) for source, size in sizes.items()}


def read(folder: Path, source: Source) -> Iterator[Dialogue]:
    """All dialogues of a source.

    Raises:
        TextsError: the folder does not hold them.

    """
    try:
        for number, (messages, tools) in enumerate(_READERS[source](folder)):
            yield Dialogue(source, number, messages, tools)
    except (OSError, ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
        raise TextsError(f"{folder} does not hold the texts of {source}: {type(error).__name__}") from error


Pairs = Iterator[tuple[Sequence[Message], Sequence[dict[str, Any]]]]


def _tau(folder: Path) -> Pairs:
    """Every call of the model in the recorded sessions: system prompt, tools, and all turns so far."""
    tools = json.loads(read_text(folder / "tau_bench/airline_tools.json"))
    for session in read_json_lines(folder / "tau_bench/trajectories_gpt4o_airline.jsonl.zst"):
        yield from _turns(session["messages"], tools)


def _turns(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Pairs:
    """What was before each of the assistant's."""
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            yield messages[:index], tools


def _tau2(folder: Path) -> Pairs:
    """A policy, and what a customer of one of its tasks wants."""
    parts = ("airline_policy.md", "airline_tasks.json.zst"), ("retail_policy.md", "retail_tasks.json.zst")
    for policy_file, tasks_file in (*parts, ("telecom_main_policy.md", "telecom_tasks_small.json")):
        policy = read_text(folder / "tau2_bench" / policy_file)
        for task in json.loads(read_text(folder / "tau2_bench" / tasks_file)):
            wishes = task["user_scenario"]["instructions"]
            wanted = "\n".join(str(wishes[name]) for name in ("reason_for_call", "known_info"))
            yield [_system(policy), _user(wanted)], ()


def _bfcl(folder: Path) -> Pairs:
    """Questions with several tools, then sessions of several turns over the documented classes of tools."""
    for question in read_json_lines(folder / "bfcl/BFCL_v4_live_multiple.jsonl.zst"):
        yield question["question"][0], [_function(tool) for tool in question["function"]]
    class_to_tools = json.loads(read_text(folder / "bfcl/multi_turn_func_doc.json"))
    for session in read_json_lines(folder / "bfcl/BFCL_v4_multi_turn_base.jsonl.zst"):
        names = {name.lower().removesuffix("api") for name in session["involved_classes"]}
        tools = [
            _function(tool)
            for name, functions in class_to_tools.items()
            if name.replace("_", "").removesuffix("api") in names
            for tool in functions
        ]
        messages: list[Message] = []
        for turn in session["question"]:
            messages = [*messages, *turn]
            yield messages, tools
            messages = [*messages, _assistant("Done.")]


def _mt_bench(folder: Path) -> Pairs:
    for line in read_json_lines(folder / "chat/mt_bench_question.jsonl"):
        first, second = line["turns"]
        yield [_user(first)], ()
        yield [_user(first), _assistant(f"Here is what I think.\n\n{first}"), _user(second)], ()


def _oasst(folder: Path) -> Pairs:
    """Every path from a tree's root to something that a human said."""

    def walk(node: dict[str, Any], before: list[Message]) -> Pairs:
        is_human = node["role"] == "prompter"
        path = [*before, _user(node["text"]) if is_human else _assistant(node["text"])]
        if is_human:
            yield path, ()
        for reply in node["replies"]:
            yield from walk(reply, path)

    for tree in read_json_lines(folder / "chat/oasst_en_100_tree.jsonl.zst"):
        yield from walk(tree["prompt"], [])


def _mcp(folder: Path) -> Pairs:
    """Tenants with some of an MCP server's tools each."""
    listed = json.loads(read_text(folder / "mcp/github_mcp_tools.json"))
    tools = [
        _function({"name": tool["name"], "description": tool["description"], "parameters": tool["inputSchema"]})
        for tool in listed
    ]
    for start in range(0, len(tools) - MCP_TOOLS, MCP_TOOLS // 2):
        for question in QUESTIONS:
            yield [_system("You look after our repositories."), _user(question)], tools[start : start + MCP_TOOLS]


def _support_desk(_: Path) -> Pairs:
    """The demo's own conversations, at every turn."""
    for session in read_json_lines(WORKLOAD / "support_desk.jsonl"):
        yield from _turns(session["messages"], session["tools"])


def _handmade(_: Path) -> Pairs:
    for messages in DIALOGUES:
        yield messages, ()


_READERS: dict[Source, Callable[[Path], Pairs]] = {
    Source.TAU: _tau,
    Source.TAU2: _tau2,
    Source.BFCL: _bfcl,
    Source.MT_BENCH: _mt_bench,
    Source.OASST: _oasst,
    Source.MCP: _mcp,
    Source.SUPPORT_DESK: _support_desk,
    Source.HANDMADE: _handmade,
}

_SCHEMA_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
"""BFCL's names of types that JSON Schema does not have."""


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool in OpenAI's form."""
    function = {name: tool[name] for name in ("name", "description", "parameters")}
    function["parameters"] = _with_schema_types(function["parameters"])
    return {"type": "function", "function": function}


def _with_schema_types(schema: Any) -> Any:  # noqa: ANN401  JSON
    if isinstance(schema, list):
        return [_with_schema_types(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: _with_schema_types(value) for name, value in schema.items()}
    if isinstance(converted.get("type"), str):
        converted["type"] = _SCHEMA_TYPES.get(converted["type"], converted["type"])
    return converted


def _system(text: str) -> Message:
    return {"role": "system", "content": text}


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}

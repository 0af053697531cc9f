"""Real system prompts, tools, documents and conversations, as the raw material of logs."""

import csv
import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import zstandard

Body = dict[str, Any]
Talk = tuple[str, ...]
"""What a user and an assistant say, in turn; the user begins."""

MIN_SYSTEM_CHARS = 9_000
"""Characters of a system prompt without tools that is a long prefix: about 1,800 tokens and more."""
SHORT_CHARS = (300, 1_500)
"""Characters of personas, whose prompts are shorter than what providers cache."""


@dataclass(frozen=True, slots=True)
class Base:
    """An application's static part."""

    name: str
    system: str
    tools: tuple[Body, ...] = ()


@dataclass(frozen=True)
class Texts:
    """What is in a folder laid out as `texts/` of Warmroute's data.

    Raises:
        OSError: something is missing there.

    """

    folder: Path
    _cache: dict[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def long_bases(self) -> list[Base]:
        """Static parts that are long enough to be cached."""
        return [*self._prompts(), *self._agents(), *self._functions(), *self._servers()]

    @cached_property
    def short_bases(self) -> list[Base]:
        """Static parts that are too short to be cached."""
        rows = decompressed(self.folder / "system_prompts/persona_prompts_cc0.csv.zst").decode()
        csv.field_size_limit(2**20)
        low, high = SHORT_CHARS
        prompts = (row["prompt"] for row in csv.DictReader(io.StringIO(rows)))
        return [
            Base(f"persona {number}", prompt)
            for number, prompt in enumerate(prompts)
            if low <= len(prompt) <= high and "{" not in prompt
        ]

    @cached_property
    def talks(self) -> list[Talk]:
        """Conversations of three turns and more."""
        lines = decompressed(self.folder / "chat/mtbench101.jsonl.zst").decode().splitlines()
        talks = [
            tuple(text for turn in json.loads(line)["history"] for text in (turn["user"], turn["bot"]))
            for line in lines
        ]
        return [talk for talk in talks if len(talk) >= 6 and all(map(str.strip, talk))]  # noqa: PLR2004  three turns

    @cached_property
    def passages(self) -> list[str]:
        """Retrieved passages."""
        content = json.loads(decompressed(self.folder / "rag/xquad_en.json.zst"))
        articles = content["data"] if isinstance(content, dict) else content
        return [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]

    def _prompts(self) -> list[Base]:
        paths = sorted(self.folder.glob("system_prompts/*.txt")) + sorted(self.folder.glob("tau2_bench/*.md"))
        bases = (Base(path.stem, path.read_text()) for path in paths)
        return [base for base in bases if len(base.system) >= MIN_SYSTEM_CHARS]

    def _agents(self) -> list[Base]:
        return [
            Base(
                f"tau {name}",
                (self.folder / f"tau_bench/{name}_wiki.md").read_text(),
                tuple(json.loads((self.folder / f"tau_bench/{name}_tools.json").read_text())),
            )
            for name in ("airline", "retail")
        ]

    def _functions(self) -> list[Base]:
        classes = json.loads((self.folder / "bfcl/multi_turn_func_doc.json").read_text())
        sets = {name: tuple(map(_as_tool, functions)) for name, functions in classes.items()}
        system = "You are an assistant that acts by calling functions. Ask for what you are missing; never guess."
        large = sorted(name for name, tools in sets.items() if len(json.dumps(tools)) >= MIN_SYSTEM_CHARS)
        return [Base(f"bfcl {name}", system, sets[name]) for name in large]

    def _servers(self) -> list[Base]:
        tools = json.loads((self.folder / "mcp/github_mcp_tools.json").read_text())
        tools = [tool for tool in tools if "_ff_" not in tool.get("_snap", "")]
        rng = Random("mcp")
        system = "You work on GitHub repositories with the tools of their server. Read before you write."
        return [Base(f"mcp {number}", system, tuple(map(_as_tool, rng.sample(tools, 20)))) for number in range(4)]


def _as_tool(function: Body) -> Body:
    """OpenAI's form, from that of BFCL or of an MCP server."""
    parameters = function.get("parameters") or function.get("inputSchema") or {"type": "object", "properties": {}}
    fields = {
        "name": function["name"],
        "description": function.get("description", ""),
        "parameters": _with_json_types(parameters),
    }
    return {"type": "function", "function": fields}


def _with_json_types(schema: Any) -> Any:  # noqa: ANN401  any JSON
    """BFCL says `dict` where JSON Schema says `object`."""
    if isinstance(schema, dict):
        return {
            key: {"dict": "object", "float": "number"}.get(value, value)
            if key == "type" and isinstance(value, str)
            else _with_json_types(value)
            for key, value in schema.items()
        }
    return list(map(_with_json_types, schema)) if isinstance(schema, list) else schema


def decompressed(path: Path) -> bytes:
    """The content of a zstd file."""
    with path.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()

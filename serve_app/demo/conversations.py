"""Recorded conversations in OpenAI message format, and the requests that replay them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

OWN_WORKLOAD = Path(__file__).parent / "texts" / "support_desk.jsonl"


class WorkloadError(ValueError):
    """A file of conversations that cannot be used; the message names the line."""


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """One request: everything up to the answer that was recorded here."""

    conversation: str
    number: int
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    answer: dict[str, Any]
    """The recorded answer."""

    def body(self, model: str, max_tokens: int) -> dict[str, Any]:
        """The turn as a streaming chat request whose usage is reported."""
        body: dict[str, Any] = {
            "model": model,
            "messages": self.messages,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return body if self.tools is None else body | {"tools": self.tools}


@dataclass(frozen=True, slots=True)
class RecordedConversation:
    """A session of one user."""

    name: str
    turns: tuple[RecordedTurn, ...]


def load_conversations(
    path: Path, *, tools: list[dict[str, Any]] | None, limit: int | None
) -> list[RecordedConversation]:
    """Read JSON Lines (.zst too): an object with `messages` a line, and `tools` unless given for all.

    Raises:
        WorkloadError: the file cannot be read, or a line is not a conversation.

    """
    conversations: list[RecordedConversation] = []
    for number, line in enumerate(_lines(path), start=1):
        if limit is not None and len(conversations) == limit:
            break
        conversations.append(_conversation(f"{path}:{number}", line, tools))
    if not conversations:
        raise WorkloadError(f"{path} holds no conversation")
    return conversations


def load_tools(path: Path) -> list[dict[str, Any]]:
    """Read a JSON array of OpenAI tool definitions.

    Raises:
        WorkloadError: it is not one.

    """
    try:
        tools = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise WorkloadError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(tools, list):
        raise WorkloadError(f"{path} is not a JSON array of tools")
    return tools


def _lines(path: Path) -> Iterator[str]:
    try:
        with zstandard.open(path, "rt") if path.suffix == ".zst" else path.open() as file:
            yield from (line for line in file if line.strip())
    except (OSError, UnicodeDecodeError, zstandard.ZstdError) as error:
        raise WorkloadError(f"{path} cannot be read: {error}") from error


def _conversation(place: str, line: str, tools: list[dict[str, Any]] | None) -> RecordedConversation:
    try:
        record = json.loads(line)
        messages = record["messages"]
        roles = [message["role"] for message in messages]
    except (ValueError, KeyError, TypeError) as error:
        raise WorkloadError(f'{place} is not an object with "messages", each with a "role"') from error
    turns = tuple(
        RecordedTurn(
            place, number, messages[:index], tools if tools is not None else record.get("tools"), messages[index]
        )
        for number, index in enumerate(index for index, role in enumerate(roles) if role == "assistant" and index)
    )
    if not turns:
        raise WorkloadError(f"{place} has no answer by the assistant, so there is nothing to ask for")
    return RecordedConversation(place, turns)

"""What a user does: requests one after the other, with pauses between them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

Message = dict[str, Any]


class SessionKind(StrEnum):
    """What a session is about; its requests are counted under this name."""

    CHAT = "chat"
    AGENTS = "agents"
    RAG = "rag"
    ONE_SHOT = "one_shot"
    REASONING = "reasoning"
    LONG_ANSWER = "long_answer"
    COLD = "cold"


@dataclass(frozen=True, slots=True)
class Turn:
    """One request."""

    body: dict[str, Any]
    """The body of a streaming chat completion, without "model"."""
    think_s: float
    """The user's pause before this turn, after the answer to the one before; 0 for the first."""


@dataclass(frozen=True, slots=True)
class Session:
    """The requests of one user; each has the recorded answers in it, so none depends on what a server answered."""

    session_id: str
    """Unique in the run, and the same for the same seed."""
    kind: SessionKind
    turns: tuple[Turn, ...]


LONG_ANSWERED = frozenset({SessionKind.REASONING, SessionKind.LONG_ANSWER})
"""Kinds whose answers are thousands of tokens long."""


def with_long_answers_scaled(session: Session, scale: float) -> Session:
    """The same with long answers as many times as long, of a token at least: for engines that are slow."""
    if scale == 1 or session.kind not in LONG_ANSWERED:
        return session
    turns = []
    for turn in session.turns:
        num_tokens = max(1, round(turn.body["max_tokens"] * scale))
        turns.append(replace(turn, body={**turn.body, "max_tokens": num_tokens, "min_tokens": num_tokens}))
    return replace(session, turns=tuple(turns))


def chat_body(
    messages: Sequence[Message], *, answer_tokens: int, tools: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """A streaming request whose answer has exactly that many tokens, and whose usage is reported."""
    body: dict[str, Any] = {
        "messages": list(messages),
        "max_tokens": answer_tokens,
        "min_tokens": answer_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return body | {"tools": list(tools)} if tools else body

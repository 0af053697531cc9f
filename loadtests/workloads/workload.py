"""Endless seeded sessions. The n-th depends on seed and n alone, so that several processes can share a run."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import count
from random import Random

from loadtests.workloads.dialogues import dialogue_turns
from loadtests.workloads.documents import rag_turns
from loadtests.workloads.laws import (
    LONG_ANSWER_SYSTEM_TOKENS,
    LONG_ANSWER_TOKENS,
    REASONING_ANSWER_TOKENS,
    REASONING_SYSTEM_TOKENS,
    LogNormal,
)
from loadtests.workloads.long_answers import cold_turns, long_answer_turns
from loadtests.workloads.one_shot import one_shot_turns
from loadtests.workloads.session import Session, SessionKind, Turn
from loadtests.workloads.texts import Texts


class Workload(StrEnum):
    """The kinds of sessions that there are."""

    CHAT = "chat"
    AGENTS = "agents"
    RAG = "rag"
    ONE_SHOT = "one_shot"
    MIX = "mix"
    REASONING = "reasoning"
    MIXED = "mixed"
    """Long answers and long prompts side by side."""


MIX: Mapping[SessionKind, int] = {
    SessionKind.CHAT: 25,
    SessionKind.AGENTS: 10,
    SessionKind.RAG: 25,
    SessionKind.ONE_SHOT: 40,
}
"""Sessions in a hundred: our choice. Agents send the most requests to a session, one-shot users one."""
MIXED: Mapping[SessionKind, int] = {SessionKind.COLD: 2, SessionKind.LONG_ANSWER: 1}
"""The shares of the kinds among three sessions."""
_WORKLOAD_TO_SHARES: Mapping[Workload, Mapping[SessionKind, int]] = {Workload.MIX: MIX, Workload.MIXED: MIXED}

_KIND_TO_SYSTEM_AND_ANSWER: Mapping[SessionKind, tuple[int, LogNormal]] = {
    SessionKind.REASONING: (REASONING_SYSTEM_TOKENS, REASONING_ANSWER_TOKENS),
    SessionKind.LONG_ANSWER: (LONG_ANSWER_SYSTEM_TOKENS, LONG_ANSWER_TOKENS),
}


def sessions(workload: Workload, texts: Texts, *, seed: int) -> Iterator[Session]:
    """Sessions without end."""
    return (session_at(number, workload, texts, seed=seed) for number in count())


def session_at(number: int, workload: Workload, texts: Texts, *, seed: int) -> Session:
    """The one of that number, from 0."""
    rng = Random(f"{workload} {seed} {number}")
    shares = _WORKLOAD_TO_SHARES.get(workload)
    kind = rng.choices(list(shares), weights=list(shares.values()))[0] if shares else SessionKind(workload)
    # Seed and number first: where one-shot prompts begin, they differ at once.
    session_id = f"{number:06d}-{seed}-{kind}"
    return Session(session_id, kind, _turns(kind, texts, session_id, rng))


def _turns(kind: SessionKind, texts: Texts, reference: str, rng: Random) -> tuple[Turn, ...]:
    match kind:
        case SessionKind.CHAT:
            return dialogue_turns(rng.choice(texts.chats), reference=reference, rng=rng)
        case SessionKind.AGENTS:
            return dialogue_turns(rng.choice(texts.agents), reference=reference, rng=rng)
        case SessionKind.RAG:
            return rag_turns(texts.documents, reference=reference, rng=rng)
        case SessionKind.ONE_SHOT:
            return one_shot_turns(texts.sentences, reference=reference, rng=rng)
        case SessionKind.REASONING | SessionKind.LONG_ANSWER:
            system_tokens, answer_tokens = _KIND_TO_SYSTEM_AND_ANSWER[kind]
            return long_answer_turns(
                texts.sentences, reference=reference, rng=rng, system_tokens=system_tokens, answer_tokens=answer_tokens
            )
        case SessionKind.COLD:
            return cold_turns(texts.sentences, reference=reference, rng=rng)

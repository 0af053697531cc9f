"""Endless seeded sessions. The n-th depends on seed and n alone, so that several processes can share a run."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from itertools import count
from random import Random

from loadtests.workloads.dialogues import dialogue_turns
from loadtests.workloads.documents import rag_turns
from loadtests.workloads.one_shot import one_shot_turns
from loadtests.workloads.session import Kind, Session, Turn
from loadtests.workloads.texts import Texts


class Workload(StrEnum):
    """Which kinds of sessions."""

    CHAT = "chat"
    AGENTS = "agents"
    RAG = "rag"
    ONE_SHOT = "one_shot"
    MIX = "mix"


MIX: Mapping[Kind, int] = {Kind.CHAT: 25, Kind.AGENTS: 10, Kind.RAG: 25, Kind.ONE_SHOT: 40}
"""Sessions in a hundred: our choice. Agents send the most requests to a session, one-shot users one."""


def sessions(workload: Workload, texts: Texts, *, seed: int) -> Iterator[Session]:
    """Without end."""
    return (session_at(number, workload, texts, seed=seed) for number in count())


def session_at(number: int, workload: Workload, texts: Texts, *, seed: int) -> Session:
    """The one of that number, from 0."""
    rng = Random(f"{workload} {seed} {number}")
    kind = rng.choices(list(MIX), weights=list(MIX.values()))[0] if workload is Workload.MIX else Kind(workload)
    # Seed and number first: where one-shot prompts begin, they differ at once.
    session_id = f"{number:06d}-{seed}-{kind}"
    return Session(session_id, kind, _turns(kind, texts, session_id, rng))


def _turns(kind: Kind, texts: Texts, reference: str, rng: Random) -> tuple[Turn, ...]:
    match kind:
        case Kind.CHAT:
            return dialogue_turns(rng.choice(texts.chats), reference=reference, rng=rng)
        case Kind.AGENTS:
            return dialogue_turns(rng.choice(texts.agents), reference=reference, rng=rng)
        case Kind.RAG:
            return rag_turns(texts.documents, reference=reference, rng=rng)
        case Kind.ONE_SHOT:
            return one_shot_turns(texts.sentences, reference=reference, rng=rng)

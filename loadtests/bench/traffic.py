"""The workloads by the names that the command line knows, each with the texts it is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.workloads import Texts, Workload, default_texts, read_texts

ONE_SHOT = "one_shot"
"""Prompts without a common prefix: affinity cannot help there, and must not hurt."""
SOURCES = {
    "chat": (Workload.CHAT, None),
    "agents": (Workload.AGENTS, None),
    "documents": (Workload.RAG, None),
    ONE_SHOT: (Workload.ONE_SHOT, None),
    "mix": (Workload.MIX, None),
    "reasoning": (Workload.REASONING, None),
    "mixed": (Workload.MIXED, None),
    "tau_airline": (Workload.AGENTS, "tau_airline"),
    "oasst": (Workload.CHAT, "oasst"),
    "rag": (Workload.RAG, "rag"),
}
"""Users' behaviour and the source of their texts, by name; None for the project's own texts."""
WORKLOAD_NAMES = tuple(SOURCES)


@dataclass(frozen=True, slots=True)
class NamedWorkload:
    """A workload, ready to be made."""

    name: str
    workload: Workload
    texts: Texts = field(repr=False)


def read_traffic(names: Sequence[str]) -> list[NamedWorkload]:
    """Each once, in order.

    Args:
        names: of `WORKLOAD_NAMES`; one-shot traffic is added where it is missing.

    Raises:
        TextsError: the texts of a source are not there.

    """
    return [_traffic(name) for name in dict.fromkeys((*names, ONE_SHOT))]


def _traffic(name: str) -> NamedWorkload:
    workload, source = SOURCES[name]
    return NamedWorkload(name, workload, default_texts() if source is None else read_texts(Path(source)))

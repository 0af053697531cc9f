"""Applications that share the server, each with its own system prompt and its own order of tools."""

from collections.abc import Sequence
from random import Random
from typing import Any

from loadtests.workloads.laws import zipf_index
from loadtests.workloads.session import Message

NAMES = (
    "Alderport", "Brackwater", "Coldharbour", "Duneholm", "Eastmere", "Foxley",
    "Greywick", "Highcombe", "Ironbridge", "Juniper Hill", "Kingsferry", "Lindenbridge",
)  # fmt: skip
"""So many that all replicas of `configs/cpu-demo.yaml` together cannot cache their agents' prompts."""


def draw_application(rng: Random) -> str:
    """The first ones often."""
    return NAMES[zipf_index(rng, len(NAMES))]


def with_system_prompt(messages: Sequence[Message], application: str) -> list[Message]:
    """The same, of this application: it says so in its first words, which is where prompts begin to differ."""
    opening = f"You answer for the {application} office."
    first = messages[0]
    if first["role"] != "system":
        return [{"role": "system", "content": opening}, *messages]
    return [first | {"content": f"{opening}\n\n{first['content']}"}, *messages[1:]]


def with_own_order(tools: Sequence[dict[str, Any]], application: str) -> list[dict[str, Any]]:
    """All of them, in an order that only this application has."""
    return Random(application).sample(list(tools), len(tools))

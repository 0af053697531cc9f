"""Logs whose requests were written in several ways that mean the same: what `warmroute audit --fix` puts in order."""

import json
from collections.abc import Iterator
from itertools import count
from random import Random

from benchmarks.virtual.audit_corpus.defects import Draft, with_reversed_keys
from benchmarks.virtual.audit_corpus.texts import Base, Body, Texts, decompressed

SHARE = 0.4
"""Share of requests with each kind of drift."""


def drifting_logs(texts: Texts, *, num_requests: int, seed: int) -> dict[str, list[Body]]:
    """Logs of a recorded agent, of function calling, and of an MCP server's tools, by name; all equally long."""
    name_to_bodies = {"tau_bench airline": _recorded(texts), **_made(texts, seed)}
    rng = Random(f"drift {seed}")
    return {
        name: [_drifted(body, rng) for body, _ in zip(bodies, range(num_requests), strict=False)]
        for name, bodies in name_to_bodies.items()
    }


def _recorded(texts: Texts) -> Iterator[Body]:
    """Every call of the recorded conversations, in order."""
    tools = json.loads((texts.folder / "tau_bench/airline_tools.json").read_text())
    for line in decompressed(texts.folder / "tau_bench/trajectories_gpt4o_airline.jsonl.zst").splitlines():
        messages = json.loads(line)["messages"]
        for place, message in enumerate(messages):
            if message["role"] == "assistant":
                yield {"model": "gpt-4o", "messages": messages[:place], "tools": tools}


def _made(texts: Texts, seed: int) -> dict[str, Iterator[Body]]:
    bases = (next(base for base in texts.long_bases if base.name.startswith(prefix)) for prefix in ("bfcl", "mcp"))
    return {base.name: _conversations(texts, base, seed) for base in bases}


def _conversations(texts: Texts, base: Base, seed: int) -> Iterator[Body]:
    for number in count():
        yield from Draft(Random(f"{base.name} {number} {seed}"), texts, base).bodies()


def _drifted(body: Body, rng: Random) -> Body:
    tools, messages = body["tools"], body["messages"]
    if rng.random() < SHARE:
        tools = rng.sample(tools, len(tools))
    if rng.random() < SHARE:
        tools = [with_reversed_keys(tool) for tool in tools]
    if rng.random() < SHARE:
        system = messages[0]["content"]
        other = rng.choice(
            (system.replace("\n", "\r\n"), system + "\n\n", "\ufeff" + system, system.replace("\n\n", " \n\n"))
        )
        messages = [{**messages[0], "content": other}, *messages[1:]]
    return {**body, "tools": tools, "messages": messages}

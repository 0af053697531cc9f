"""The self-test: a few prompts that a replica serves to itself, and whose results a router can predict.

They follow from the report's own fields, so that replicas and routers have the same ones without sending them. Each has
at least three blocks. A run's nonce is new, so what it finds in the cache it has put there itself.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import orjson
import xxhash

from serve_app.messages.receipts import ProbeResult, SelfTestReport

CHAT_BLOCKS, TEXT_BLOCKS = 3, 5.5
"""Different lengths, one of which ends within a block, so that blocks of another size show."""
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Probe(NamedTuple):
    """One request of the self-test."""

    path: str
    body: dict[str, Any]


Ask = Callable[[Probe], Awaitable[ProbeResult | None]]
"""Has a probe served; None if the API refused it."""


def make_probes(*, model: str, adapter: str, nonce: str, block_size: int) -> list[Probe]:
    """The probes of one run, in order.

    Args:
        model: the model's name for clients.
        adapter: the name of one of its adapters, or empty.
        nonce: this run's nonce.
        block_size: the replica's block size, in tokens.

    """
    words = "the " * (CHAT_BLOCKS * block_size)
    chat = {"messages": [{"role": "user", "content": words}], "cache_salt": f"{nonce}-a"}
    text = {"prompt": f"{nonce} " + "the " * int(TEXT_BLOCKS * block_size)}
    probes = [
        (CHAT, chat),
        (CHAT, chat),
        (CHAT, chat | {"cache_salt": f"{nonce}-b"}),
        (CHAT, _agents_chat(words) | {"cache_salt": f"{nonce}-a"}),
        *([(CHAT, chat | {"model": adapter})] if adapter else []),
        (COMPLETIONS, text),
        (COMPLETIONS, text),
        (COMPLETIONS, text | {"cache_salt": f"{nonce}-a"}),
    ]
    return [Probe(path, {"model": model, "max_tokens": 1, "temperature": 0} | fields) for path, fields in probes]


def hash_probes(probes: Sequence[Probe]) -> int:
    """A hash that is equal for equal probes."""
    return xxhash.xxh3_64_intdigest(orjson.dumps([tuple(probe) for probe in probes]))


def probes_of(report: SelfTestReport) -> list[Probe]:
    """The probes that a replica reports on, if it is of this version."""
    return make_probes(model=report.model, adapter=report.adapter, nonce=report.nonce, block_size=report.block_size)


async def run_self_test(
    ask: Ask,
    *,
    model: str,
    adapter: str,
    block_size: int,
    period_s: float,
    is_crowded: Callable[[], bool],
) -> SelfTestReport:
    """Have all probes served, one after the other.

    Args:
        ask: has a probe served.
        model: the model's name for clients.
        adapter: the name of one of its adapters, or empty.
        block_size: the replica's block size, in tokens.
        period_s: seconds until the next run.
        is_crowded: whether other prompts may evict at any moment what is cached.

    """
    nonce = secrets.token_hex(8)
    results: list[ProbeResult | None] = []
    was_crowded = is_crowded()
    last = None
    probes = make_probes(model=model, adapter=adapter, nonce=nonce, block_size=block_size)
    for probe in probes:
        result = await ask(probe)
        if probe == last and result is not None and not result.cached_tokens:
            result = await ask(probe)  # the caches may have been reset in between
        results.append(result)
        was_crowded |= is_crowded()
        last = probe
    return SelfTestReport(
        nonce=nonce,
        model=model,
        adapter=adapter,
        block_size=block_size,
        period_s=period_s,
        probes_hash=hash_probes(probes),
        results=tuple(results),
        was_crowded=was_crowded,
    )


def _agents_chat(words: str) -> dict[str, Any]:
    """A chat with all that a template may have to render, except media."""
    function = {
        "name": "look_up",
        "description": "Look up a word.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    }
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "canary"}'}}
    return {
        "messages": [
            {"role": "system", "content": words},
            {"role": "user", "content": "What is a canary?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "A bird."},
        ],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "none",  # what the template gets is the same, and no parser has to be configured
    }

"""Empties the caches of a running server's engines without a word to the routers, and asks for what was in them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from benchmarks.harness.running_server import Server
from loadtests.workloads.prompts import Prompts
from serve_app.messages.response_headers import BELIEVED_CACHED_TOKENS_HEADER

WORDS = 60
MAX_REQUESTS = 50
"""After so many requests predictions must be right where engines do not tell, but for one at each replica: two misses
tell that its cache was emptied, and the second one may be that of the last prompt whose estimate is wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's tokens."""

    believed: int
    """Tokens that the router estimated to be cached."""
    cached: int
    """Tokens that the engine reused."""

    @property
    def is_predicted(self) -> bool:
        """Whether as much was reused as was estimated."""
        return self.believed == self.cached


async def measure(server: Server, num_prompts: int, num_requests: int, *, wait_s: float, seed: int) -> list[Answer]:
    """What was predicted and what came of it, of each request after the caches were emptied."""
    rng = Random(seed)
    texts = Prompts(Random(f"stale {seed}"), shared_prefix_words=(1,), shared=0)
    prompts = [texts.prompt(min_words=WORDS, max_words=2 * WORDS) for _ in range(num_prompts)]
    await asyncio.to_thread(server.application.reset_caches)
    async with server.client() as client:
        for prompt in prompts:
            await _ask(client, server.run.model, prompt)
        await server.wait_until_idle()
        await asyncio.to_thread(server.application.reset_engines)
        await asyncio.sleep(wait_s)
        return [await _ask(client, server.run.model, rng.choice(prompts)) for _ in range(num_requests)]


async def _ask(client: httpx.AsyncClient, model: str, prompt: str) -> Answer:
    body = {"model": model, "prompt": prompt, "max_tokens": 1}
    response = (await client.post("/v1/completions", json=body)).raise_for_status()
    usage: dict[str, Any] = response.json()["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Answer(int(response.headers[BELIEVED_CACHED_TOKENS_HEADER]), cached)


def wrong(answers: Sequence[Answer]) -> list[int]:
    """Which of them were not predicted, counted from 1."""
    return [number for number, answer in enumerate(answers, 1) if not answer.is_predicted]


def late(answers: Sequence[Answer]) -> list[int]:
    """Which were not predicted though it was time."""
    return [number for number in wrong(answers) if number > MAX_REQUESTS]

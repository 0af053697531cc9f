"""How soon are predictions right again when engines empty their caches and no router is told? On the running server.

Without KV events, by what engines reuse; with `replicas.kv_events`, engines tell it themselves.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Annotated, Any

import httpx
import typer

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import Server, running_server
from loadtests.workloads.prompts import Prompts
from serve_app.messages.response_headers import BELIEVED_CACHED_TOKENS_HEADER

WORDS = 60
MAX_REQUESTS = 50
"""After which predictions must be right, where engines do not tell; but for one at each replica, as it takes two misses
to tell that it was emptied, and the second one may be of the last prompt that is wrongly believed there."""
MAX_S = 1.0
"""After which they must be where engines tell."""

app = make_app()


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's tokens."""

    sent_s: float
    """Since the caches were emptied."""
    believed: int
    cached: int

    @property
    def is_predicted(self) -> bool:
        """Whether as much was reused as was believed."""
        return self.believed == self.cached


@app.command()
@measurement
def main(
    num_prompts: Annotated[int, typer.Option("--prompts", min=1, help="Held when the caches are emptied.")] = 100,
    num_requests: Annotated[int, typer.Option("--requests", min=1, help="Sent afterwards, one by one.")] = 200,
    wait_s: Annotated[float, typer.Option(min=0, help="Before the first of them.")] = 0,
    seed: SeedOption = 1,
) -> Report:
    """Fill the caches, empty them behind the routers' backs, and come back to what was in them."""
    with running_server(full_headers=True) as server:
        answers = asyncio.run(measure(server, num_prompts, num_requests, wait_s=wait_s, seed=seed))
        replicas = [each for router in server.application.routers() for each in router["replicas"].values()]
        knowledge = {each["knowledge"] for each in replicas}
    records = {"knowledge": sorted(knowledge), "answers": [asdict(answer) for answer in answers]}
    faults = _faults(answers, knowledge, num_replicas=len({replica["rank"] for replica in replicas}))
    return Report((), records, faults, lines=[f"Caches known by {', '.join(sorted(knowledge))}{server.run.note}."])


async def measure(server: Server, num_prompts: int, num_requests: int, *, wait_s: float, seed: int) -> list[Answer]:
    """What was predicted and what came of it, of each request after the caches were emptied."""
    rng = Random(seed)
    texts = Prompts(Random(f"stale {seed}"), shared_prefix_words=(1,), shared=0)
    prompts = [texts.prompt(min_words=WORDS, max_words=2 * WORDS) for _ in range(num_prompts)]
    await asyncio.to_thread(server.application.reset_caches)
    async with server.client() as client:
        for prompt in prompts:
            await _ask(client, server.run.model, prompt, 0.0)
        await server.wait_until_idle()
        await asyncio.to_thread(server.application.reset_engines)
        reset_s = time.monotonic()
        await asyncio.sleep(wait_s)
        return [await _ask(client, server.run.model, rng.choice(prompts), reset_s) for _ in range(num_requests)]


async def _ask(client: httpx.AsyncClient, model: str, prompt: str, reset_s: float) -> Answer:
    sent_s = time.monotonic() - reset_s
    body = {"model": model, "prompt": prompt, "max_tokens": 1}
    response = (await client.post("/v1/completions", json=body)).raise_for_status()
    usage: dict[str, Any] = response.json()["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Answer(sent_s, int(response.headers[BELIEVED_CACHED_TOKENS_HEADER]), cached)


def wrong(answers: Sequence[Answer]) -> list[int]:
    """Which of them were not predicted, counted from 1."""
    return [number for number, each in enumerate(answers, 1) if not each.is_predicted]


def late(answers: Sequence[Answer]) -> list[int]:
    """Which were not predicted though it was time."""
    return [number for number in wrong(answers) if number > MAX_REQUESTS]


def _faults(answers: Sequence[Answer], knowledge: set[str], *, num_replicas: int) -> list[str]:
    if knowledge == {"kv_events"}:
        missed = [each for each in answers if each.sent_s > MAX_S and not each.is_predicted]
        return [f"{len(missed)} predictions were wrong later than {MAX_S:g} s"] if missed else []
    numbers = late(answers)
    too_many = len(numbers) > num_replicas
    return [f"the predictions of {numbers} were wrong, later than request {MAX_REQUESTS}"] if too_many else []

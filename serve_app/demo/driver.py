"""Drives conversations through a running server: closed loop, a fixed number at a time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
import orjson

from serve_app.demo.conversations import RecordedConversation, RecordedTurn
from serve_app.messages.response_headers import REPLICA_HEADER

REQUEST_TIMEOUT_S = 300


class DriveError(Exception):
    """The server refused a request of the workload."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One answered request."""

    conversation: str
    turn: int
    replica: str | None
    """None where answers do not say it (`replicas.explain_headers`)."""
    sent_at_s: float
    ttft_s: float
    prompt_tokens: int
    cached_tokens: int

    @property
    def uncached_tokens(self) -> int:
        """Prompt tokens that the replica had to compute."""
        return self.prompt_tokens - self.cached_tokens


async def drive(
    conversations: Sequence[RecordedConversation],
    *,
    url: str,
    model: str,
    concurrency: int,
    max_tokens: int,
    on_done: Callable[[], None],
) -> list[Measurement]:
    """Replay every conversation; the next turn follows when the answer is complete, with the recorded history.

    Raises:
        DriveError: a request was not answered with 200.

    """
    waiting = iter(conversations)
    measurements: list[Measurement] = []
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT_S, limits=limits) as client:

        async def user() -> None:
            for conversation in waiting:
                for turn in conversation.turns:
                    measurements.append(await _ask(client, turn, model, max_tokens))
                    on_done()

        async with asyncio.TaskGroup() as users:
            for _ in range(concurrency):
                users.create_task(user())
    return measurements


async def tokenize(turns: Sequence[RecordedTurn], *, url: str, model: str) -> list[list[int]]:
    """The prompt's token ids of each request, as a replica sees them.

    Raises:
        DriveError: a request was not answered with 200.

    """
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT_S) as client:
        prompts = []
        for turn in turns:
            body = {"model": model, "messages": turn.messages, "tools": turn.tools, "add_generation_prompt": True}
            response = await client.post("/tokenize", json=body)
            _check(response, turn)
            prompts.append(response.json()["tokens"])
    return prompts


async def _ask(client: httpx.AsyncClient, turn: RecordedTurn, model: str, max_tokens: int) -> Measurement:
    content = orjson.dumps(turn.body(model, max_tokens))
    headers = {"content-type": "application/json"}
    sent_at_s = time.perf_counter()
    ttft_s = None
    usage = None
    async with client.stream("POST", "/v1/chat/completions", content=content, headers=headers) as response:
        if not response.is_success:
            await response.aread()
        _check(response, turn)
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            if ttft_s is None:
                ttft_s = time.perf_counter() - sent_at_s
            usage = orjson.loads(line.removeprefix("data: ")).get("usage") or usage
    if ttft_s is None or usage is None:
        raise DriveError(f"{turn.conversation}, turn {turn.number}: the stream ended without tokens or usage")
    return Measurement(
        conversation=turn.conversation,
        turn=turn.number,
        replica=response.headers.get(REPLICA_HEADER),
        sent_at_s=sent_at_s,
        ttft_s=ttft_s,
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
    )


def _check(response: httpx.Response, turn: RecordedTurn) -> None:
    if not response.is_success:
        place = f"{turn.conversation}, turn {turn.number}"
        raise DriveError(f"{place}: the server answered {response.status_code}: {response.text[:500]}")

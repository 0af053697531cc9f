"""Steady load of short requests: at a rate whatever the server does, or of a number of clients at a time."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

import httpx
import orjson

from loadtests.client.exchange import ClientRequest, Exchange, exchange
from loadtests.workloads.prompts import Prompts

SHARED_PREFIX_WORDS = (20, 40, 80, 120)
SHARED = 0.7
MIN_WORDS, MAX_WORDS = 30, 50
"""Words of a prompt: more than a block of 32 tokens, so that every prompt has a key."""
ANSWER_TOKENS = 8
MAX_OUTSTANDING = 256


def short_requests(model: str, *, seed: int, kind: str, are_some_whole: bool = False) -> Iterator[ClientRequest]:
    """An endless series of chat requests with prompts of about a hundred tokens and short answers.

    All of them stream; or one in two wants its answer whole, and is of another kind.
    """
    prompts = Prompts(Random(f"{kind} {seed}"), shared_prefix_words=SHARED_PREFIX_WORDS, shared=SHARED)
    for number in itertools.count():
        content = prompts.prompt(min_words=MIN_WORDS, max_words=MAX_WORDS)
        streams = not are_some_whole or number % 2 == 0
        name = kind if streams else f"{kind}, whole"
        yield chat(f"{kind}-{number:05d}", name, model, content, answer_tokens=ANSWER_TOKENS, streams=streams)


def chat(
    request_id: str, kind: str, model: str, content: str, *, answer_tokens: int, streams: bool = True
) -> ClientRequest:
    """A chat request whose answer has exactly that many tokens."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": answer_tokens,
        "min_tokens": answer_tokens,
        "ignore_eos": True,
    }
    if streams:
        body |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    return ClientRequest(request_id, kind, "/v1/chat/completions", orjson.dumps(body))


@dataclass(slots=True)
class Load:
    """What was sent so far."""

    exchanges: list[Exchange] = field(default_factory=list)
    """Requests in the order of sending, those under way included."""
    num_unsent: int = 0
    """Requests that were due while too many were outstanding."""
    num_outstanding: int = 0
    max_late_s: float = 0.0
    """How late a request was sent at worst: how well this process kept up."""
    on_end: Callable[[Exchange], None] | None = None

    async def send(self, client: httpx.AsyncClient, request: ClientRequest) -> None:
        """Send one, and follow it to its end."""
        record = Exchange(request.request_id, request.kind, time.monotonic())
        self.exchanges.append(record)
        self.num_outstanding += 1
        try:
            await exchange(client, request, record=record)
        finally:
            self.num_outstanding -= 1
        if self.on_end is not None:
            self.on_end(record)

    def take_ended(self) -> list[Exchange]:
        """The requests that have ended, which are then forgotten here."""
        ended = [record for record in self.exchanges if record.outcome is not None]
        self.exchanges = [record for record in self.exchanges if record.outcome is None]
        return ended


async def open_loop(
    client: httpx.AsyncClient,
    requests: Iterator[ClientRequest],
    load: Load,
    *,
    rate: float,
    stopped: asyncio.Event,
    max_outstanding: int = MAX_OUTSTANDING,
) -> None:
    """Send `rate` a second until stopped, then wait for the last answer."""
    due_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        while not await _stopped_before(due_s, stopped):
            load.max_late_s = max(load.max_late_s, time.monotonic() - due_s)
            due_s += 1 / rate
            if load.num_outstanding < max_outstanding:
                tasks.create_task(load.send(client, next(requests)))
            else:
                load.num_unsent += 1


async def closed_loop(
    client: httpx.AsyncClient,
    requests: Iterator[ClientRequest],
    load: Load,
    *,
    num_clients: int,
    stopped: asyncio.Event,
    pause_s: float = 0.02,
) -> None:
    """Run clients with one request at a time each, until stopped. The pause keeps failures at once from racing."""

    async def user() -> None:
        while not stopped.is_set():
            await load.send(client, next(requests))
            await asyncio.sleep(pause_s)

    async with asyncio.TaskGroup() as users:
        for _ in range(num_clients):
            users.create_task(user())


async def _stopped_before(due_s: float, stopped: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), max(0.0, due_s - time.monotonic()))
    return stopped.is_set()


def outcome_counts(exchanges: Iterable[Exchange]) -> Counter[str]:
    """The number of requests by outcome, and of refusals by status."""
    return Counter(record.outcome_text for record in exchanges)

"""Sends large bodies at a steady rate, from a process of its own so that it does not slow down who measures."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Self

import httpx
import orjson

from benchmarks.harness.load import Load, open_loop, outcome_counts
from loadtests.client.exchange import TIMEOUT_S, ClientRequest

PATH = "/v1/chat/completions"
MAX_OUTSTANDING = 64


@dataclass(frozen=True, slots=True)
class Burst:
    """What is to be sent."""

    num_bytes: int
    """Bytes of each body."""
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, and what came of it."""

    burst: Burst
    num_sent: int
    num_unsent: int
    """Due while too many were outstanding."""
    max_late_s: float
    cpu_share: float
    """Share of one core that the sender used."""
    outcomes: dict[str, int]
    durations_s: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Bodies a second, as reached."""
        return self.num_sent / self.burst.seconds


def large_body(model: str, num_bytes: int) -> bytes:
    """A chat request of exactly that size; its text is longer than any model takes."""
    empty = _chat(model, "")
    return _chat(model, "x" * (num_bytes - len(empty)))


def _chat(model: str, text: str) -> bytes:
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 1})


class BurstSender:
    """The process; ready to send when the block begins."""

    def __init__(self, url: str, model: str) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._url = url
        self._model = model

    def __enter__(self) -> Self:
        self._pool.submit(int).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    async def send(self, burst: Burst) -> Sent:
        """Send, and wait for the last answer."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, send_in_process, burst, self._url, self._model
        )


def send_in_process(burst: Burst, url: str, model: str) -> Sent:
    """Send one burst, in the process."""
    return asyncio.run(send_burst(burst, url, model))


async def send_burst(burst: Burst, url: str, model: str, *, transport: httpx.AsyncBaseTransport | None = None) -> Sent:
    """Send one burst; the body is built once."""
    load, stopped = Load(), asyncio.Event()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    async with httpx.AsyncClient(
        base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False, transport=transport
    ) as client:
        asyncio.get_running_loop().call_later(burst.seconds, stopped.set)
        requests = _requests(large_body(model, burst.num_bytes))
        await open_loop(client, requests, load, rate=burst.rate, stopped=stopped, max_outstanding=MAX_OUTSTANDING)
    return Sent(
        burst=burst,
        num_sent=len(load.exchanges),
        num_unsent=load.num_unsent,
        max_late_s=load.max_late_s,
        cpu_share=(time.process_time() - started_cpu_s) / (time.monotonic() - started_s),
        outcomes=dict(outcome_counts(load.exchanges)),
        durations_s=tuple(each.duration_s for each in load.exchanges if each.duration_s is not None),
    )


def _requests(body: bytes) -> Iterator[ClientRequest]:
    for number in itertools.count():
        yield ClientRequest(f"large-{number:05d}", "large", PATH, body)

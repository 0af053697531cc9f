"""Sends large bodies at a steady rate, from a process of its own so that it does not slow down who measures."""

import asyncio
import contextlib
import itertools
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Self

import httpx
import orjson

from benchmarks.harness.load import Load, open_loop, outcome_counts
from loadtests.client.exchange import TIMEOUT_S, ClientRequest

PATH = "/v1/chat/completions"
MAX_OUTSTANDING = 64
JOIN_TIMEOUT_S = 10.0


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
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=obey, args=(theirs, url, model), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        assert self._connection.recv() is None  # it has imported everything
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # it is gone already
            self._connection.send(None)
        self._process.join(JOIN_TIMEOUT_S)

    async def send(self, burst: Burst) -> Sent:
        """Send, and wait for the last answer."""
        self._connection.send(burst)
        sent: Sent = await asyncio.to_thread(self._connection.recv)
        return sent


def obey(connection: Connection, url: str, model: str) -> None:
    """The process's work: one burst after another, until told to end."""
    connection.send(None)
    while (burst := connection.recv()) is not None:
        connection.send(asyncio.run(send_burst(burst, url, model)))


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

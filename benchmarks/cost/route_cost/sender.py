"""Asks `/internal/route` as HAProxy does, over raw connections, so that asking costs little compared with answering."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import cast

import httptools

from serve_app.edge.options import TOKEN_HEADER, edge_token

HOST = "127.0.0.1"
ANSWER_TIMEOUT_S = 30.0
OK = 200

Body = Sequence[bytes]
"""A body in pieces, so that a conversation's prefix is not copied for each of its turns."""


class SenderError(Exception):
    """The router did not answer as it should."""


class RouteSender:
    """Asks one router.

    Args:
        port: of the router, on this machine.
        keep_alive: without, each request has a connection of its own, as HAProxy's have.
        on_answer: takes each answer's content.

    """

    def __init__(self, port: int, *, keep_alive: bool, on_answer: Callable[[bytes], None]) -> None:
        self._port = port
        self._token = edge_token()
        self._keep_alive = keep_alive
        self._on_answer = on_answer

    async def send(self, bodies: Iterable[Body], *, connections: int, seconds: float) -> list[float]:
        """The next one as soon as there is an answer, until the time is up or the bodies are; how long each took.

        Raises:
            SenderError: an answer is not 200, or there is none.

        """
        until = time.perf_counter() + seconds
        latencies: list[float] = []
        rest = iter(bodies)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._send_until(until, rest, latencies))
        return latencies

    async def send_at(self, rate: float, bodies: Iterable[Body], *, connections: int, seconds: float) -> list[float]:
        """Send at a rate, whatever the answers take; how long after its time each was answered.

        Raises:
            SenderError: an answer is not 200, or there is none.

        """
        started_at = time.perf_counter()
        latencies: list[float] = []
        due = zip((started_at + number / rate for number in range(round(rate * seconds))), bodies, strict=False)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._send_when_due(due, latencies))
        return latencies

    async def _send_until(self, until: float, bodies: Iterator[Body], latencies: list[float]) -> None:
        with closing(_Asking(self._port, keep_alive=self._keep_alive)) as asking:
            for body in bodies:
                started_at = time.perf_counter()
                if started_at > until:
                    break
                content = await asking.ask(body)
                latencies.append(time.perf_counter() - started_at)
                self._on_answer(content)

    async def _send_when_due(self, due: Iterator[tuple[float, Body]], latencies: list[float]) -> None:
        with closing(_Asking(self._port, keep_alive=self._keep_alive)) as asking:
            for due_at, body in due:
                await asyncio.sleep(due_at - time.perf_counter())
                content = await asking.ask(body)
                latencies.append(time.perf_counter() - due_at)
                self._on_answer(content)


class _Asking:
    """One request after another, each on a new connection if need be."""

    def __init__(self, port: int, *, keep_alive: bool) -> None:
        self._port = port
        self._token = edge_token()
        self._keep_alive = keep_alive
        self._connection: _Connection | None = None

    async def ask(self, body: Body) -> bytes:
        if self._connection is None:
            self._connection = await self._connect()
        content = await self._connection.ask(self._head(body), body)
        if not self._keep_alive:
            self.close()
        return content

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    async def _connect(self) -> "_Connection":
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, HOST, self._port)
        return connection

    def _head(self, body: Body) -> bytes:
        return (
            f"POST /internal/route HTTP/1.1\r\nHost: {HOST}:{self._port}\r\nContent-Type: application/json\r\n"
            f"Connection: {'keep-alive' if self._keep_alive else 'close'}\r\n"
            f"{TOKEN_HEADER}: {self._token}\r\n"
            f"Content-Length: {sum(len(part) for part in body)}\r\n\r\n"
        ).encode()


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one request at a time. `on_` methods are httptools' callbacks."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._content: list[bytes] = []
        self._answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(SenderError(f"the router closed the connection: {exc}"))

    def on_body(self, body: bytes) -> None:
        self._content.append(body)

    def on_message_complete(self) -> None:
        assert self._answered is not None
        content = b"".join(self._content)
        if self._parser.get_status_code() == OK:
            self._answered.set_result(content)
        else:
            self._answered.set_exception(SenderError(f"status {self._parser.get_status_code()}: {content[:200]!r}"))
        self._parser = httptools.HttpResponseParser(self)

    async def ask(self, head: bytes, body: Body) -> bytes:
        self._content = []
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.writelines([head, *body])
        return await asyncio.wait_for(self._answered, ANSWER_TIMEOUT_S)

    def close(self) -> None:
        self._transport.close()

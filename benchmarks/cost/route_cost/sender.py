"""Asks `/internal/route` as HAProxy does, over raw connections, so that asking costs little compared with answering."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from serve_app.edge.options import TOKEN_HEADER, edge_token

HOST = "127.0.0.1"
ANSWER_TIMEOUT_S = 30.0
OK = b"HTTP/1.1 200"


class SenderError(Exception):
    """The router did not answer as it should."""


class RouteSender:
    """Asks one router, each time on a new connection, as HAProxy does.

    Args:
        port: of the router, on this machine.
        on_answer: takes each answer's content.

    """

    def __init__(self, port: int, *, on_answer: Callable[[bytes], None]) -> None:
        self._port = port
        self._token = edge_token()
        self._on_answer = on_answer

    async def send(self, bodies: Iterable[bytes], *, connections: int, seconds: float) -> list[float]:
        """The next one as soon as there is an answer, until the time is up or the bodies are; how long each took.

        Raises:
            SenderError: an answer is not 200, or there is none.

        """
        until = time.perf_counter() + seconds
        latencies_s: list[float] = []
        rest = iter(bodies)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._send_until(until, rest, latencies_s))
        return latencies_s

    async def _send_until(self, until: float, bodies: Iterator[bytes], latencies_s: list[float]) -> None:
        for body in bodies:
            started_at = time.perf_counter()
            if started_at > until:
                break
            content = await self._ask(body)
            latencies_s.append(time.perf_counter() - started_at)
            self._on_answer(content)

    async def _ask(self, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, self._port)
        with closing(writer):
            writer.writelines([self._head(body), body])
            answer = await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
        head, _, content = answer.partition(b"\r\n\r\n")
        if not head.startswith(OK):
            raise SenderError(f"the router answered {head[:40]!r}: {content[:200]!r}")
        return content

    def _head(self, body: bytes) -> bytes:
        return (
            f"POST /internal/route HTTP/1.1\r\nHost: {HOST}:{self._port}\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\n{TOKEN_HEADER}: {self._token}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()

"""Sends one request and follows its stream, by gevent; lines are timed as they come off the socket.

Locust's own streaming waits for blocks of 1,024 bytes, several tokens of an answer, so first tokens would seem late.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

from loadtests.client.answers import EventStream, Outcome
from loadtests.locust_kit.sample import Sample
from loadtests.workloads import Turn
from serve_app.messages.response_headers import ENGINE_HEADER

PATH = "/v1/chat/completions"
HEADERS = {"content-type": "application/json"}
TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 10_000
"""Arrivals must not wait for a connection."""
OK = 200


class ServerError(Exception):
    """The server does not say what it serves."""


@dataclass(slots=True)
class _Reading:
    """Of one answer, as far as it came."""

    status: int | None = None
    retry_after_s: float | None = None
    engine: str = ""
    ttft_s: float | None = None
    last_token_s: float | None = None
    num_bytes: int = 0


class Sender:
    """To one server, over as many connections as there are requests at a time.

    Args:
        url: of the server.
        model: its name for clients; empty for the first that the server names.

    Raises:
        ServerError: no name was given, and the server does not name one.

    """

    def __init__(self, url: str, model: str) -> None:
        self._client = HTTPClient.from_url(
            url, concurrency=MAX_CONNECTIONS, network_timeout=TIMEOUT_S, connection_timeout=CONNECT_TIMEOUT_S
        )
        self._prefix = urlsplit(url).path.rstrip("/")
        self._model = model or self._first_model(url)

    def send(self, kind: str, turn: Turn) -> Sample:
        """Send, and follow the answer to its end; never raises for what the server or the network does."""
        content = orjson.dumps({"model": self._model, **turn.body})
        reading, stream = _Reading(), EventStream()
        started_s = time.perf_counter()
        try:
            outcome = self._converse(content, reading, stream, started_s)
        except TimeoutError:
            outcome = Outcome.TIMED_OUT
        except (OSError, HTTPConnectionClosed, HTTPParseError):
            outcome = Outcome.NO_ANSWER if reading.status is None else Outcome.CUT
        return Sample(
            kind=kind,
            outcome=outcome,
            duration_s=time.perf_counter() - started_s,
            status=reading.status,
            retry_after_s=reading.retry_after_s,
            ttft_s=reading.ttft_s,
            last_token_s=reading.last_token_s,
            prompt_tokens=stream.prompt_tokens,
            cached_tokens=stream.cached_tokens,
            answer_tokens=stream.answer_tokens or 0,
            num_bytes=reading.num_bytes,
            engine=reading.engine,
        )

    def close(self) -> None:
        """All connections."""
        self._client.close()

    def _converse(self, content: bytes, reading: _Reading, stream: EventStream, started_s: float) -> Outcome:
        with self._client.post(f"{self._prefix}{PATH}", body=content, headers=HEADERS) as response:
            reading.status = response.get_code()
            reading.retry_after_s = _seconds(response.get("retry-after"))
            reading.engine = str(response.get(ENGINE_HEADER, ""))
            if reading.status != OK:
                response.read()
                return Outcome.REFUSED
            for line in _lines(response):
                reading.num_bytes += len(line)
                if line.startswith(b"data: {"):
                    self._note_event(line, reading, stream, started_s)
                else:
                    stream.feed(line.decode())
            return stream.outcome

    @staticmethod
    def _note_event(line: bytes, reading: _Reading, stream: EventStream, started_s: float) -> None:
        now_s = time.perf_counter() - started_s
        tokens_before = stream.prompt_tokens
        stream.feed(line.decode())
        reading.ttft_s = reading.ttft_s or now_s
        if stream.prompt_tokens == tokens_before:  # the last event only tells the usage
            reading.last_token_s = now_s

    def _first_model(self, url: str) -> str:
        try:
            with self._client.get(f"{self._prefix}/v1/models") as response:
                return str(orjson.loads(bytes(response.read()))["data"][0]["id"])
        except (OSError, HTTPConnectionClosed, HTTPParseError, ValueError, LookupError, TypeError) as error:
            raise ServerError(f"{url} does not name its models ({type(error).__name__}): is it up?") from error


def _lines(response: HTTPSocketPoolResponse) -> Iterator[bytes]:
    while line := response.readline(b"\n"):
        yield bytes(line)


def _seconds(retry_after: object) -> float | None:
    """None where there is none, or a date, which no server of ours writes."""
    with contextlib.suppress(ValueError):
        return float(str(retry_after))
    return None

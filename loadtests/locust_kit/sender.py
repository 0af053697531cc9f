"""Sends one request and follows its stream, by gevent; lines are timed as they come off the socket.

Locust's own streaming waits for blocks of 1,024 bytes, several tokens of an answer, so first tokens would seem late.
"""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import orjson
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

from loadtests.client.answers import EventStream, Outcome
from loadtests.client.exchange import TIMEOUT_S, Exchange
from loadtests.workloads import Turn

PATH = "/v1/chat/completions"
HEADERS = {"content-type": "application/json"}
CONNECT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 10_000
"""Arrivals must not wait for a connection."""
OK = 200


class ServerError(Exception):
    """The server does not say what it serves."""


class LocustSender:
    """Sends to one server, over as many connections as there are requests at a time.

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

    def send(self, kind: str, turn: Turn) -> Exchange:
        """Send, and follow the answer to its end; never raises for what the server or the network does."""
        content = orjson.dumps({"model": self._model, **turn.body})
        record = Exchange("", kind, time.perf_counter())
        try:
            outcome = self._converse(content, record)
        except TimeoutError:
            outcome = Outcome.TIMED_OUT
        except (OSError, HTTPConnectionClosed, HTTPParseError):
            outcome = record.broken
        record.end(outcome, time.perf_counter)
        return record

    def close(self) -> None:
        """All connections."""
        self._client.close()

    def _converse(self, content: bytes, record: Exchange) -> Outcome:
        with self._client.post(f"{self._prefix}{PATH}", body=content, headers=HEADERS) as response:
            record.read_headers(response.get_code(), lambda name: _text(response.get(name)))
            if record.status != OK:
                response.read()
                return Outcome.REFUSED
            record.stream = EventStream()
            for line in _lines(response):
                record.num_bytes += len(line)
                record.read_line(line.decode(), time.perf_counter)
            return record.stream.outcome

    def _first_model(self, url: str) -> str:
        try:
            with self._client.get(f"{self._prefix}/v1/models") as response:
                return str(orjson.loads(bytes(response.read()))["data"][0]["id"])
        except (OSError, HTTPConnectionClosed, HTTPParseError, ValueError, LookupError, TypeError) as error:
            raise ServerError(f"{url} does not name its models ({type(error).__name__}): is it up?") from error


def _lines(response: HTTPSocketPoolResponse) -> Iterator[bytes]:
    while line := response.readline(b"\n"):
        yield bytes(line)


def _text(header: object) -> str | None:
    return None if header is None else str(header)

"""A server that speaks vLLM's chat API on a port of its own, for a Locust in another process."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT_TOKENS, CACHED_TOKENS = 100, 80
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]}
TOKEN = {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}


@dataclass
class ChatServer:
    """What it does, and what it was asked. A conversation's first request is cold, its others are warm."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    num_to_shed: int = 0
    """So many chat requests get a 429 first."""
    status: int = 200
    is_cut: bool = False
    """Answers end after their first token."""
    engine: str | None = None
    was_asked_for_models: threading.Event = field(default_factory=threading.Event)
    before_models: threading.Event | None = None
    """What it waits for before it names them."""
    before_rest: threading.Event | None = None
    """What it waits for between the first token and the others."""

    def take(self, body: dict[str, Any]) -> int:
        """The status for this request."""
        if self.num_to_shed:
            self.num_to_shed -= 1
            return 429
        self.bodies.append(body)
        return self.status


@contextmanager
def running_chat_server(server: ChatServer) -> Iterator[ChatServer]:
    """Until the block ends."""
    handler = type("Handler", (_Handler,), {"chat": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    chat: ChatServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """The models."""
        self.chat.was_asked_for_models.set()
        if self.chat.before_models is not None:
            self.chat.before_models.wait()
        self._whole(200, {"data": [{"id": "demo"}]})

    def do_POST(self) -> None:
        """A chat."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = self.chat.take(body)
        if status != 200:
            self._whole(status, {"error": {"message": "no", "type": "error"}})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        if self.chat.engine is not None:
            self.send_header("x-warmroute-engine", self.chat.engine)
        self.end_headers()
        self._stream(body)

    def _stream(self, body: dict[str, Any]) -> None:
        self._event(ROLE)
        if self.chat.is_cut:
            self.close_connection = True
            return
        if self.chat.before_rest is not None:
            self.chat.before_rest.wait()
        for _ in range(body["max_tokens"] - 1):
            self._event(TOKEN)
        self._event(LAST)
        is_first = not any(message["role"] == "assistant" for message in body["messages"])
        usage: dict[str, Any] = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": body["max_tokens"]}
        if not is_first:
            usage["prompt_tokens_details"] = {"cached_tokens": CACHED_TOKENS}
        self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def _whole(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "0.01")
        self.end_headers()
        self.wfile.write(body)

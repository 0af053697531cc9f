"""HAProxy as Ray would run it with our rules, before routers and replicas that tests make up."""

import asyncio
import contextlib
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from serve_app.edge.options import EDGE_VARIABLE, EdgeOptions
from serve_app.settings.cluster_secret import SECRET_VARIABLE

OPTIONS = EdgeOptions(
    host="127.0.0.1",
    router_timeout_s=0.5,
    router_retry_s=2,
    head_timeout_s=10,
    body_timeout_s=10,
    max_connections_per_source=1024,
    max_requests_per_s_per_source=None,
    max_head_kib=64,
    more_paths=[],
    certificate=None,
    tls_port=8443,
    key_file=None,
)
SECRET = "0123456789abcdef" * 2
START_TIMEOUT_S = 30
PORTS = iter(random.sample(range(21_000, 30_000), 9_000))


def free_port() -> int:
    """That nobody uses now, another one each time; below those that the system takes for connections meanwhile."""
    for port in PORTS:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port of the range was used")


@dataclass
class Request:
    """As a server read it."""

    line: str
    headers: dict[str, str]
    body: bytes


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next one of a connection; None at its end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    return Request(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def response(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """In HTTP."""
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


@dataclass
class Server:
    """One that listens on the thread's event loop and keeps what it was sent."""

    answer: Callable[[Request, asyncio.StreamWriter], Awaitable[None]]
    port: int = 0
    requests: list[Request] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends or the test does."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (request := await read_request(reader)) is not None:
                if not request.line.startswith("GET /-/healthz"):
                    self.requests.append(request)
                await self.answer(request, writer)
                await writer.drain()
                if request.headers.get("connection") == "close":
                    break
        writer.close()


class Loop:
    """An event loop in a thread of its own, for servers beside a test that waits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._listeners: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def serve(self, server: Server) -> Server:
        """Until the loop stops."""

        async def start() -> None:
            listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
            server.port = listener.sockets[0].getsockname()[1]
            self._listeners.append(listener)

        self._run(start())
        return server

    def stop(self) -> None:
        """End every connection."""

        async def end() -> None:
            for listener in self._listeners:
                listener.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_TIMEOUT_S)


@dataclass
class Edge:
    """A running HAProxy."""

    port: int
    metrics_port: int
    statistics_port: int
    process: "subprocess.Popen[bytes]"
    folder: Path

    @property
    def url(self) -> str:
        """For clients."""
        return f"http://127.0.0.1:{self.port}"


def write_config(
    folder: Path, *, routers: list[int], replicas: dict[str, int], ports: tuple[int, int, int], prefix: str = "/"
) -> Path:
    """By Ray's own code, for one application with these routers' ports, and the replicas' by their id.

    Below it is another application without routers, of the same replicas, and above it a third one.
    """
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    port, metrics_port, statistics_port = ports
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        metrics_socket_path=str(folder / "metrics.sock"),
        http_options=HTTPOptions(host="0.0.0.0", port=port),  # noqa: S104  as Ray has it
        metrics_port=metrics_port,
        stats_port=statistics_port,
        enable_hap_optimization=False,
        is_head=True,
        has_received_routes=True,
        has_received_servers=True,
    )
    backend = BackendConfig(
        name="http-demo",
        path_prefix=prefix,
        app_name="demo",
        servers=[
            ServerConfig(f"SERVE_REPLICA_demo-Replica-{name}", "127.0.0.1", port, name)
            for name, port in replicas.items()
        ],
        ingress_request_router_servers=[ServerConfig(f"router-{port}", "127.0.0.1", port) for port in routers],
    )
    others = {
        f"http-{name}": BackendConfig(name=f"http-{name}", path_prefix=path, app_name=name, servers=backend.servers)
        for name, path in {"page": f"{prefix.rstrip('/')}/page", "top": "/"}.items()
        if path != prefix
    }
    backends = {"http-demo": backend, **others} if replicas else {}
    api = HAProxyApi(config, backends, config_file_path=str(folder / "haproxy.cfg"))
    ray = "ray.serve._private.haproxy.RAY_SERVE_"
    with (
        mock.patch(f"{ray}INGRESS_REQUEST_ROUTER_FORWARD_BODY", new=True),
        mock.patch(f"{ray}HAPROXY_INGRESS_REQUEST_ROUTER_BUFSIZE", new=2 * 2**20),
    ):
        api._generate_config_file_internal()
    return folder / "haproxy.cfg"


@contextlib.contextmanager
def running_edge(
    folder: Path,
    *,
    routers: list[int],
    replicas: dict[str, int],
    options: EdgeOptions = OPTIONS,
    prefix: str = "/",
    environment: dict[str, str] | None = None,
) -> Iterator[Edge]:
    """HAProxy, started by our program as Ray starts it."""
    ports = (free_port(), free_port(), free_port())
    path = write_config(folder, routers=routers, replicas=replicas, ports=ports, prefix=prefix)
    variables = {EDGE_VARIABLE: options.encode(), SECRET_VARIABLE: SECRET, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "serve_app.edge.program", "-db", "-f", str(path)]
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(command, env={**variables, **(environment or {})}, stdout=log, stderr=log)
    try:
        _wait_for(ports[0], process, folder / "haproxy.log")
        yield Edge(*ports, process, folder)
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = threading.Event()
    for _ in range(START_TIMEOUT_S * 50):
        if process.poll() is not None:
            raise AssertionError(log.read_text())
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        deadline.wait(0.02)
    raise AssertionError(f"HAProxy does not listen: {log.read_text()}")


def with_options(**changes: object) -> EdgeOptions:
    """The usual ones, but for these."""
    return msgspec.structs.replace(OPTIONS, **changes)

"""What stands around HAProxy in tests: routers and replicas that fail as they are told."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from serve_app.messages.routing_note import NOTE_HEADER
from tests.serve_app.edge.running import Edge, Loop, Request, Server, response, running_edge, with_options

CHAT = "/v1/chat/completions"


def decision(replica_id: str) -> bytes:
    """A router's answer."""
    content = {"replica_id": replica_id, "request_headers": {NOTE_HEADER: f"note;{replica_id}"}}
    return response(json.dumps(content).encode())


class Setting:
    """Two routers and two replicas. Each router answers what `answers` has for it, after as long as it has."""

    def __init__(self, loop: Loop) -> None:
        self.answers = [decision("a"), decision("a")]
        self.delays_s = [0.0, 0.0]
        self.routers = [loop.serve(Server(self._router(number))) for number in range(2)]
        self.replicas = {name: loop.serve(Server(self._replica(name))) for name in "ab"}

    def reset(self) -> None:
        """As at the beginning."""
        self.answers, self.delays_s = [decision("a"), decision("a")], [0.0, 0.0]
        for server in (*self.routers, *self.replicas.values()):
            server.requests.clear()

    @property
    def num_asked(self) -> int:
        """Questions to routers."""
        return sum(len(router.requests) for router in self.routers)

    def _router(self, number: int) -> Callable[[Request, asyncio.StreamWriter], object]:
        async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(self.delays_s[number])
            writer.write(self.answers[number])

        return answer

    def _replica(self, name: str) -> Callable[[Request, asyncio.StreamWriter], object]:
        async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.line.startswith("GET /-/healthz"):
                writer.write(response(b"ok"))
                return
            await asyncio.sleep(float(request.headers.get("x-wait-s", 0)))
            content = {"replica": name, "headers": request.headers, "body": len(request.body)}
            writer.write(response(json.dumps(content).encode()))

        return answer


@contextlib.contextmanager
def started(setting: Setting, folder: Path, **changes: object) -> Iterator[Edge]:
    """HAProxy before the setting, with the usual options but for these."""
    setting.reset()
    routers = [router.port for router in setting.routers]
    replicas = {name: replica.port for name, replica in setting.replicas.items()}
    with running_edge(folder, routers=routers, replicas=replicas, options=with_options(**changes)) as edge:
        yield edge

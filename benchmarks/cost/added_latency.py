"""What the way through HAProxy and router adds to a bare replica's answer, and where each part of it goes."""

import asyncio
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.table import Table

from benchmarks.cost.route_cost.applications import router_ports
from benchmarks.cost.route_cost.conversations import Conversations
from benchmarks.cost.route_cost.sender import RouteSender
from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import Server, running_server
from loadtests.report.statistics import percentile
from loadtests.report.tables import make_table
from router import ReplicaId, RequestId
from serve_app.local.haproxy import replica_urls
from serve_app.messages.response_headers import PROMPT_TOKENS_HEADER, REPLICA_HEADER
from serve_app.messages.routing_note import NOTE_HEADER, RoutingNote
from serve_app.messages.snapshot import short_id
from serve_app.settings.cluster_secret import derived_key

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
SIZES = (1_000, 15_000)
"""Tokens of a returning conversation, about; the demo's model reads 16,384."""
THROUGH, BARE, NOTED = "through HAProxy", "bare replica", "bare replica, with a router's note"
GET_THROUGH, GET_BARE, DECISION = "GET through HAProxy", "GET of the bare replica", "decision alone"

app = make_app()


@dataclass(frozen=True, slots=True)
class Timings:
    """The seconds that each kind of request took for one size of prompt, in the order of the rounds."""

    prompt_tokens: int
    kind_to_seconds: Mapping[str, Sequence[float]]

    def added_ms(self, percent: int) -> float:
        """Percentiles of the answers through HAProxy and of the bare replica's, subtracted."""
        return self._ms(THROUGH, percent) - self._ms(BARE, percent)

    def parts_ms(self) -> dict[str, float]:
        """The parts of what is added at the median; the last one is what the others leave."""
        parts = {
            "the router's decision, asked on a connection of its own": self._ms(DECISION, 50),
            "passing request and answer on (a GET, which is not routed)": self._difference_ms(GET_THROUGH, GET_BARE),
            "headers and receipts at the replica": self._difference_ms(NOTED, BARE),
        }
        return {
            **parts,
            "rest: HAProxy asks and copies, routers tell each other": self.added_ms(50) - sum(parts.values()),
        }

    def as_json(self) -> dict[str, Any]:
        """Every time."""
        kinds = {kind: [second * 1000 for second in seconds] for kind, seconds in self.kind_to_seconds.items()}
        return {"prompt_tokens": self.prompt_tokens, "milliseconds": kinds}

    def _ms(self, kind: str, percent: int) -> float:
        return percentile(self.kind_to_seconds[kind], percent) * 1000

    def _difference_ms(self, kind: str, other: str) -> float:
        """The median of the rounds' own differences: what disturbs the machine disturbs both."""
        pairs = zip(self.kind_to_seconds[kind], self.kind_to_seconds[other], strict=True)
        return median(one - another for one, another in pairs) * 1000

    def rows(self) -> list[tuple[str, str, str]]:
        """What, p50 and p99."""
        kinds = (BARE, THROUGH)
        rows = [(kind, f"{self._ms(kind, 50):.2f}", f"{self._ms(kind, 99):.1f}") for kind in kinds]
        rows.append(("added", f"{self.added_ms(50):.2f}", f"{self.added_ms(99):.1f}"))
        return [*rows, *((f"  {name}", f"{ms:.2f}", "") for name, ms in self.parts_ms().items())]


@app.command()
@measurement
def main(
    rounds: Annotated[
        int, typer.Option(min=10, help="Rounds for each size; each asks in all ways, in any order.")
    ] = 300,
    seed: SeedOption = 1,
) -> Report:
    """Time the same returning chats through HAProxy and at the replica that serves them, in turn."""
    with running_server(full_headers=True) as server:
        conversations = Conversations(server.run.model, seed=seed)
        timings = asyncio.run(_measure(server, conversations, rounds, random.Random(seed)))
    return Report([added_table(timings)], {"sizes": [size.as_json() for size in timings]})


def added_table(timings: Sequence[Timings]) -> Table:
    """A section for each size."""
    table = make_table("A returning chat's answer of one token, in ms", left=["tokens", ""], right=["p50", "p99"])
    for size in timings:
        for what, p50, p99 in size.rows():
            table.add_row(f"{size.prompt_tokens:,}", what, p50, p99)
        table.add_section()
    return table


async def _measure(server: Server, conversations: Conversations, rounds: int, rng: random.Random) -> list[Timings]:
    timings = []
    async with server.client() as client:
        for num_tokens in SIZES:
            body = conversations.cold(num_tokens, 1)[0]
            await server.wait_until_idle()
            timings.append(await _Rounds(server, client, body, rng).run(rounds))
    return timings


class _Rounds:
    """One conversation, returning unchanged, so that its replica has all of it in its cache."""

    def __init__(self, server: Server, client: httpx.AsyncClient, body: bytes, rng: random.Random) -> None:
        self._run = server.run
        self._client = client
        fields = orjson.loads(body)
        self._content = orjson.dumps({**fields, "max_tokens": 1, "temperature": 0})
        self._rng = rng
        self._kind_to_seconds: defaultdict[str, list[float]] = defaultdict(list)

    async def run(self, rounds: int) -> Timings:
        first = await self._chat(self._run.url)
        replica, prompt_tokens = first.headers[REPLICA_HEADER], int(first.headers[PROMPT_TOKENS_HEADER])
        bare_url = replica_urls(self._run.run_dir).get(short_id(replica))
        if bare_url is None:
            raise MeasurementError(f"HAProxy's configuration does not name replica {replica}")
        kind_to_ask: dict[str, Callable[[], Awaitable[httpx.Response]]] = {
            THROUGH: lambda: self._chat(self._run.url),
            BARE: lambda: self._chat(bare_url),
            NOTED: lambda: self._chat(bare_url, {NOTE_HEADER: _note(replica, prompt_tokens)}),
            GET_THROUGH: lambda: self._client.get(f"{self._run.url}{MODELS}"),
            GET_BARE: lambda: self._client.get(f"{bare_url}{MODELS}"),
        }
        for number in range(-1, rounds):  # the first one opens connections
            for kind in self._rng.sample(list(kind_to_ask), len(kind_to_ask)):
                started_at = time.perf_counter()
                response = await kind_to_ask[kind]()
                seconds = time.perf_counter() - started_at
                response.raise_for_status()
                if number >= 0:
                    self._kind_to_seconds[kind].append(seconds)
        # Last, for no replica serves what is decided here: the routers count it as under way for some seconds.
        port = router_ports(self._run.run_dir)[self._run.application][0]
        sender = RouteSender(port, on_answer=lambda _: None)
        self._kind_to_seconds[DECISION] = await sender.send(rounds * [self._content], connections=1, seconds=60)
        return Timings(prompt_tokens, self._kind_to_seconds)

    async def _chat(self, url: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        json_headers = {"content-type": "application/json", **(headers or {})}
        return await self._client.post(f"{url}{CHAT}", content=self._content, headers=json_headers)


def _note(replica: str, prompt_tokens: int) -> str:
    """A note as of a router, for a request that no router knows."""
    request_id = RequestId(uuid.uuid4().hex)
    note = RoutingNote(request_id, ReplicaId(replica), "none", "none", prompt_tokens, prompt_tokens)
    return note.encode(derived_key(NOTE_HEADER))

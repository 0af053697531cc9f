"""More long prompts than the replicas take: refused how, and what becomes of those that were accepted."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import httpx
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.load import Load, outcome_counts
from benchmarks.harness.running_server import Server
from benchmarks.harness.snapshots import is_idle, outstanding
from loadtests.client.answers import Outcome
from loadtests.client.exchange import ClientRequest, Exchange
from loadtests.report.tables import counts_text, make_table, milliseconds_text
from loadtests.workloads.prompts import Prompts
from serve_app.messages.snapshot import RouterSnapshot, short_id

TOO_MANY = 429
APIS: Mapping[str, str] = {
    "chat": "/v1/chat/completions",
    "message": "/v1/messages",
    "completion": "/v1/completions",
}
ERROR_SHAPES: Mapping[str, str] = {"chat": "openai", "message": "anthropic", "completion": "openai"}


@dataclass(frozen=True, slots=True)
class OverloadPlan:
    """What the command line asks for."""

    rate: float
    """Requests a second, whatever becomes of them."""
    max_requests: int
    """Requests after which waiting for a refusal ends."""
    seconds_after: float
    """Go on for so long after the first refusal."""
    prompt_words: int
    answer_tokens: int
    seed: int


@dataclass(frozen=True, slots=True)
class OverloadOutcome:
    """What came of one run."""

    exchanges: Sequence[Exchange]
    refused_before: Counter[str]
    routers_after: Sequence[RouterSnapshot]

    def of(self, api: str) -> list[Exchange]:
        """The requests to one API."""
        return [each for each in self.exchanges if each.kind == api]

    def faults(self) -> list[str]:
        """What must not be, in words."""
        faults = []
        if not any(is_refused(each) for each in self.exchanges):
            faults.append("nothing was refused: raise --rate, --max-requests or --prompt-words")
        others = [each for each in self.exchanges if not each.is_complete and not is_refused(each)]
        if others:
            faults.append(f"{len(others)} requests failed otherwise: {counts_text(outcome_counts(others))}")
        refused = [each for each in self.exchanges if is_refused(each)]
        without = sum(each.retry_after is None for each in refused)
        if without:
            faults.append(f"{without} refusals had no Retry-After header")
        shapes = Counter(f"{each.kind}: {each.error_shape}" for each in refused if not has_own_shape(each))
        if shapes:
            faults.append(f"refusals in another API's shape: {counts_text(shapes)}")
        if not is_idle(self.routers_after):
            left = [row for row in outstanding(self.routers_after) if not row.is_nothing]
            faults.append(f"not idle at the end: {left}")
        return faults


def is_refused(each: Exchange) -> bool:
    """Whether it was told to come back later."""
    return each.outcome is Outcome.REFUSED and each.status == TOO_MANY


def has_own_shape(each: Exchange) -> bool:
    """Whether an error has the shape that clients of its API read."""
    return each.error_shape == ERROR_SHAPES[each.kind]


async def run(server: Server, plan: OverloadPlan, console: Console) -> OverloadOutcome:
    """Send ever more until some are refused, go on for a while, and wait for the rest."""
    before = await server.wait_until_idle()
    if not is_idle(before):
        raise MeasurementError("the server is busy: let no one else use it")
    load = Load()
    with console.status("Sending"):
        async with server.client(keep_alive=False) as client, asyncio.TaskGroup() as tasks:
            await _send(client, long_requests(server.run.model, plan), load, plan, tasks)
            console.print(f"{len(load.exchanges)} sent, {load.num_outstanding} to be answered")
    return OverloadOutcome(load.exchanges, refusals(before), await server.wait_until_idle())


async def _send(
    client: httpx.AsyncClient,
    requests: Iterator[ClientRequest],
    load: Load,
    plan: OverloadPlan,
    tasks: asyncio.TaskGroup,
) -> None:
    stop_s = float("inf")
    for request in itertools.islice(requests, plan.max_requests):
        if stop_s == float("inf") and any(is_refused(each) for each in load.exchanges):
            stop_s = time.monotonic() + plan.seconds_after
        if time.monotonic() > stop_s:
            return
        tasks.create_task(load.send(client, request))
        await asyncio.sleep(1 / plan.rate)


def long_requests(model: str, plan: OverloadPlan) -> Iterator[ClientRequest]:
    """An endless series of requests to each API in turn; no two prompts have anything in common."""
    prompts = Prompts(Random(f"overload {plan.seed}"), shared_prefix_words=(), shared=0)
    for number, api in enumerate(itertools.cycle(APIS)):
        text = prompts.text(plan.prompt_words)
        prompt = {"prompt": text} if api == "completion" else {"messages": [{"role": "user", "content": text}]}
        body = {"model": model, "max_tokens": plan.answer_tokens, "stream": True, **prompt}
        yield ClientRequest(f"{api}-{number:04d}", api, APIS[api], orjson.dumps(body))


def refusals(routers: Sequence[RouterSnapshot]) -> Counter[str]:
    """What each router has refused so far, by router and cause."""
    return Counter(
        {f"{short_id(router.router)} {cause}": count for router in routers for cause, count in router.refused.items()}
    )


def summary(result: OverloadOutcome) -> Table:
    """A line for each API: what was refused and how, and how long the accepted requests took."""
    table = make_table(
        "More than the replicas take",
        left=("API", "outcomes", "Retry-After of refusals", "shapes of refusals"),
        right=("first byte ms\np50", "\np99", "total ms\np50", "\np99"),
    )
    for api in APIS:
        exchanges = result.of(api)
        refused = [each for each in exchanges if is_refused(each)]
        complete = [each for each in exchanges if each.is_complete]
        first = [each.first_byte_s for each in complete if each.first_byte_s is not None]
        total = [each.duration_s for each in complete if each.duration_s is not None]
        table.add_row(
            api,
            counts_text(outcome_counts(exchanges)),
            counts_text(Counter(f"{each.retry_after} s" for each in refused)),
            counts_text(Counter(str(each.error_shape) for each in refused)),
            *(milliseconds_text(values, percent) for values in (first, total) for percent in (50, 99)),
        )
    return table


def refused_by_routers(result: OverloadOutcome) -> str:
    """The refusals since the start that the routers count themselves."""
    return counts_text(refusals(result.routers_after) - result.refused_before) or "nothing"

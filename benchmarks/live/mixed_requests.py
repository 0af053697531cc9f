"""Every kind of request, mixed: is nothing left outstanding, and do our token counts agree with vLLM's own?"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.harness.command import SeedOption, make_app, measurement
from benchmarks.harness.console import notes_console
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.load import outcome_counts
from benchmarks.harness.report import Report
from benchmarks.harness.running_server import Server, running_server, settled
from benchmarks.harness.snapshots import Outstanding, Snapshot, engine_totals, outstanding
from benchmarks.live.agreement import TOLERANCE, Agreement, Counted, Difference
from benchmarks.live.funnel_agreement import FunnelAgreement, compare_funnels
from loadtests.client.exchange import ClientRequest, Exchange, exchange
from loadtests.client.request_mix import KINDS, is_as_expected, request_mix
from loadtests.report.tables import counts_text, make_table

app = make_app()


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run."""

    exchanges: Sequence[Exchange]
    seconds: float
    routers_before: Sequence[Snapshot]
    routers: Sequence[Snapshot]
    before: Counted
    after: Counted

    @property
    def left(self) -> list[Outstanding]:
        """What the routers hold to be outstanding at the end."""
        return [row for row in outstanding(self.routers) if not row.is_nothing]

    @property
    def agreements(self) -> dict[str, Agreement]:
        """By short replica id."""
        return self.after.agreement_since(self.before)

    @property
    def funnels(self) -> dict[str, FunnelAgreement]:
        """By short replica id."""
        return compare_funnels(self.routers_before, self.routers, self.before, self.after)

    def faults(self) -> list[str]:
        """What must not be, in words."""
        faults = [f"router {row.router} counts outstanding requests at {row.replica}: {row}" for row in self.left]
        if _members(self.routers) != _members(self.routers_before):
            faults.append("routers or replicas were replaced during the run, so the totals cannot be compared")
        faults += [
            f"replica {replica}: our totals and vLLM's differ by more than {TOLERANCE:.1%}"
            for replica, agreement in self.agreements.items()
            if not agreement.is_close
        ]
        faults += [
            f"replica {replica}: funnel and vLLM differ: {each.rest:,} tokens looked up without a cause, "
            f"{each.reused:,} reused, {each.hits:,} found"
            for replica, each in self.funnels.items()
            if not each.is_close
        ]
        return faults


@app.command()
@measurement
def main(
    requests: Annotated[int, typer.Option(min=len(KINDS), help="Requests of all kinds together.")] = 2000,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 12,
    prefill_tokens: Annotated[int, typer.Option(min=64, help="Tokens of a long prefill.")] = 12_000,
    seed: SeedOption = 1,
) -> Report:
    """Send every kind of request, then compare what was counted where."""
    console = notes_console()
    with running_server() as server:
        mix = request_mix(requests, model=server.run.model, seed=seed, prefill_tokens=prefill_tokens)
        result = asyncio.run(_run(server, mix, concurrency, console))
    if not result.after.ours:
        raise MeasurementError("the routers' snapshots have no engine totals: set llm.log_engine_metrics: true")
    strange = [exchange for exchange in result.exchanges if not is_as_expected(exchange)]
    return Report(
        [
            outcome_table(result),
            outstanding_table(result.routers),
            agreement_table(result.agreements),
            funnel_table(result.funnels),
        ],
        {
            "seed": seed,
            "requests": [exchange.as_json() for exchange in result.exchanges],
            "unexpected": [exchange.request_id for exchange in strange],
            "agreements": {replica: asdict(agreement) for replica, agreement in result.agreements.items()},
            "routers": result.routers,
        },
        result.faults(),
        lines=[f"{len(result.exchanges)} requests in {result.seconds:.0f} s; ended as they should not: {len(strange)}"],
    )


async def _run(server: Server, mix: Sequence[ClientRequest], concurrency: int, console: Console) -> Result:
    async with server.client() as client:
        with console.status("Waiting until the server is idle and the counters are exported"):
            routers_before = await server.wait_until_idle()
            before = await _count(server, client)
            await server.engine_counters(client).require()
        started_s = time.monotonic()
        exchanges = await _send(client, mix, concurrency, console)
        seconds = time.monotonic() - started_s
        with console.status("Waiting until the server is idle and the counters are exported"):
            await server.wait_until_idle()
            after = await _count(server, client)
    return Result(exchanges, seconds, routers_before, await server.routers(), before, after)


def _members(routers: Sequence[Snapshot]) -> set[str]:
    return {router["router"] for router in routers} | {replica for router in routers for replica in router["replicas"]}


async def _count(server: Server, client: httpx.AsyncClient) -> Counted:
    counters = server.engine_counters(client)

    async def read() -> Counted:
        return Counted(engine_totals(await server.routers()), await counters.read())

    return await settled(read)


async def _send(
    client: httpx.AsyncClient, mix: Sequence[ClientRequest], concurrency: int, console: Console
) -> list[Exchange]:
    waiting = iter(mix)
    exchanges: list[Exchange] = []
    with Progress(console=console) as progress:
        task = progress.add_task("requests", total=len(mix))

        async def user() -> None:
            for request in waiting:
                exchanges.append(await exchange(client, request))
                progress.advance(task)

        async with asyncio.TaskGroup() as users:
            for _ in range(concurrency):
                users.create_task(user())
    return exchanges


def outcome_table(result: Result) -> Table:
    """Counts by kind and outcome."""
    table = make_table("What became of the requests", left=("kind", "outcomes"), right=("requests", "unexpected"))
    for kind in KINDS:
        of_kind = [each for each in result.exchanges if each.kind == kind]
        num_strange = sum(not is_as_expected(each) for each in of_kind)
        table.add_row(kind, counts_text(outcome_counts(of_kind)), str(len(of_kind)), str(num_strange or ""))
    return table


def outstanding_table(routers: Sequence[Snapshot]) -> Table:
    """What each router holds to be outstanding at the end; all must be 0."""
    names = [name for name in Outstanding.__slots__ if name not in {"router", "replica"}]
    headings = [name.replace("_", " ") for name in names]
    table = make_table("Outstanding at the end", left=("router", "replica"), right=headings)
    for row in outstanding(routers):
        table.add_row(row.router, row.replica, *(str(getattr(row, name)) for name in names))
    return table


def agreement_table(agreements: Mapping[str, Agreement]) -> Table:
    """Our totals against vLLM's, with and without the uncounted tokens."""
    table = make_table(
        "Tokens counted during the run, by us and by vLLM",
        left=("replica", "uncounted by us", "total"),
        right=("ours", "vLLM's", "difference", "unexplained"),
    )
    for replica, agreement in agreements.items():
        table.add_row(replica, counts_text(agreement.uncounted_tokens), "prompt / queries", *_cells(agreement.prompt))
        table.add_row("", "", "cached / hits", *_cells(agreement.cached))
        table.add_row("", "", "looked up / queries", *_cells(agreement.looked_up))
        table.add_row("", "", "hit / hits", *_cells(agreement.hit), end_section=True)
    return table


def funnel_table(funnels: Mapping[str, FunnelAgreement]) -> Table:
    """What the routers say went to each replica, what vLLM looked up, and why that is not the same."""
    names = [field.name for field in fields(FunnelAgreement)]
    headings = [name.replace("_", " ") for name in (*names, "rest")]
    table = make_table("Tokens by the routers' funnel and by vLLM, during the run", left=("replica",), right=headings)
    for replica, each in funnels.items():
        table.add_row(replica, *(f"{getattr(each, name):,}" for name in (*names, "rest")))
    return table


def _cells(difference: Difference) -> list[str]:
    return [
        f"{difference.ours:,}",
        f"{difference.vllms:,}",
        f"{difference.relative:+.4%}",
        f"{difference.unexplained:+.4%}",
    ]

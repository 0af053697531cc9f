"""Every kind of request, mixed: is nothing left outstanding, and do our token counts agree with vLLM's own?"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from benchmarks.harness.running_server import Server
from benchmarks.harness.snapshots import Outstanding, engine_totals, outstanding
from loadtests.client.exchange import ClientRequest, Exchange, exchange
from serve_app.messages.snapshot import RouterSnapshot
from tests.agreement import TOLERANCE, Agreement, Counted
from tests.engine_counters import read_counters, settled
from tests.funnel_agreement import FunnelAgreement, compare_funnels


@dataclass(frozen=True, slots=True)
class MixedRequests:
    """What became of the requests, and what was counted before and after them."""

    exchanges: Sequence[Exchange]
    routers_before: Sequence[RouterSnapshot]
    routers: Sequence[RouterSnapshot]
    before: Counted
    after: Counted

    @property
    def left(self) -> list[Outstanding]:
        """What the routers count as outstanding at the end."""
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
            f"replica {replica}: funnel and vLLM differ: {funnel.rest:,} tokens looked up without a cause, "
            f"{funnel.reused:,} reused, {funnel.hits:,} found"
            for replica, funnel in self.funnels.items()
            if not funnel.is_close
        ]
        return faults


async def send_mix(server: Server, mix: Sequence[ClientRequest], *, concurrency: int) -> MixedRequests:
    """Send requests of all kinds, and count what was counted where before and after."""
    async with server.client() as client:
        routers_before = await server.wait_until_idle()
        before = await _count(server, client)
        exchanges = await _send(client, mix, concurrency)
        await server.wait_until_idle()
        after = await _count(server, client)
        assert after.vllms, "vLLM counts nothing: set llm.log_engine_metrics: true"
    return MixedRequests(exchanges, routers_before, await server.routers(), before, after)


def _members(routers: Sequence[RouterSnapshot]) -> set[str]:
    return {router.router for router in routers} | {replica for router in routers for replica in router.replicas}


async def _count(server: Server, client: httpx.AsyncClient) -> Counted:
    async def read() -> Counted:
        return Counted(engine_totals(await server.routers()), await read_counters(client))

    return await settled(read)


async def _send(client: httpx.AsyncClient, mix: Sequence[ClientRequest], concurrency: int) -> list[Exchange]:
    waiting = iter(mix)
    exchanges: list[Exchange] = []

    async def user() -> None:
        exchanges.extend([await exchange(client, request) for request in waiting])

    async with asyncio.TaskGroup() as users:
        for _ in range(concurrency):
            users.create_task(user())
    return exchanges

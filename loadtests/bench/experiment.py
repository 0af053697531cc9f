"""Runs a plan on a cluster: capacities first, then the cells in their order."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from statistics import fmean
from typing import Any, Protocol

import httpx

from loadtests.bench.cluster import CellTarget
from loadtests.bench.driver import OnDone, SessionDriver
from loadtests.bench.plan import BenchCell, BenchPlan
from loadtests.bench.records import Capacity, CellResult, SentTurn
from loadtests.bench.routings import BASELINE
from loadtests.client.exchange import TIMEOUT_S

USERS_PER_REPLICA = 8


class CapacityError(Exception):
    """A workload's capacity could not be measured."""


class Prepares(Protocol):
    """A cluster, as an experiment sees it."""

    def prepare(self, routing: str) -> CellTarget:
        """Let this routing decide, from empty caches."""


ClientOf = Callable[[str], httpx.AsyncClient]


def make_client(url: str) -> httpx.AsyncClient:
    """A client without a limit of connections, which would delay what is due."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False)


class BenchExperiment:
    """One plan on one cluster.

    Args:
        plan: what to measure.
        cluster: prepared for one cell after the other.
        client_of: makes a client of an address.

    """

    def __init__(self, plan: BenchPlan, cluster: Prepares, *, client_of: ClientOf = make_client) -> None:
        self._plan = plan
        self._cluster = cluster
        self._client_of = client_of

    def measure_capacity(self, workload: str, *, on_done: OnDone) -> Capacity:
        """Let users keep every replica busy, one session after the other, without pauses, by round robin.

        Raises:
            CapacityError: requests failed, or none was served.

        """
        target = self._cluster.prepare(BASELINE)
        num_users = USERS_PER_REPLICA * target.num_replicas
        seconds = self._plan.capacity_s

        async def run(driver: SessionDriver) -> list[SentTurn]:
            sessions = self._plan.capacity_sessions(workload)
            return await driver.closed_loop(sessions, num_users=num_users, seconds=seconds)

        records = asyncio.run(self._drive(target, run, think_scale=0.0, on_done=on_done))
        all_sessions = [
            each for number in range(self._plan.repetitions) for each in self._plan.sessions(workload, number)
        ]
        turns_per_session = fmean(len(each.turns) for each in all_sessions)
        return capacity(workload, records, seconds=seconds, num_users=num_users, turns_per_session=turns_per_session)

    def measure(self, cell: BenchCell, capacity: Capacity, *, on_done: OnDone) -> CellResult:
        """Measure one cell."""
        began_s = time.monotonic()
        target = self._cluster.prepare(cell.routing)
        setup_s = time.monotonic() - began_s
        sessions = self._plan.sessions(cell.workload, cell.repetition)
        rate = capacity.sessions_per_s(cell.load)
        starts_s = self._plan.starts_s(cell.workload, cell.repetition, num_sessions=len(sessions), sessions_per_s=rate)

        async def run(driver: SessionDriver) -> list[SentTurn]:
            return await driver.open_loop(sessions, starts_s)

        records = asyncio.run(self._drive(target, run, think_scale=self._plan.think_scale, on_done=on_done))
        duration_s = max(each.due_s + each.end_to_end_s for each in records)
        return CellResult(cell, target.num_replicas, duration_s, setup_s, records)

    async def _drive(
        self,
        target: CellTarget,
        run: Callable[[SessionDriver], Coroutine[Any, Any, list[SentTurn]]],
        *,
        think_scale: float,
        on_done: OnDone,
    ) -> list[SentTurn]:
        async with self._client_of(target.url) as client:
            return await run(SessionDriver(client, model=target.model, think_scale=think_scale, on_done=on_done))


def capacity(
    workload: str, records: Sequence[SentTurn], *, seconds: float, num_users: int, turns_per_session: float
) -> Capacity:
    """The capacity by the requests that were served within the time, in which all users were busy.

    Raises:
        CapacityError: requests failed, or none was served.

    """
    failed = [each for each in records if not each.is_complete]
    served = [each for each in records if each.due_s + each.end_to_end_s <= seconds]
    if failed or not served:
        outcome = f", the first: {failed[0].outcome} (status {failed[0].status})" if failed else ""
        raise CapacityError(
            f"the capacity for {workload} cannot be measured: of {len(records)} requests {len(failed)} failed and "
            f"{len(served)} ended within {seconds:g} s{outcome}"
        )
    return Capacity(
        workload=workload,
        num_users=num_users,
        requests_per_s=len(served) / seconds,
        uncached_tokens_per_s=sum(each.prompt_tokens - each.cached_tokens for each in served) / seconds,
        turns_per_session=turns_per_session,
    )

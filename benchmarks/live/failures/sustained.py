"""Minutes of more than the replicas can do: what is shed, what the admitted wait, and how soon all is normal again."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.load import Load, closed_loop, open_loop, outcome_counts
from benchmarks.harness.running_server import Server
from benchmarks.live.failures.overload import is_refused
from loadtests.client.exchange import Exchange
from loadtests.client.turn_request import interleaved_turns
from loadtests.report.statistics import percentile
from loadtests.report.tables import counts_text, make_table, milliseconds_text

OPEN_SESSIONS = 64
"""Sessions at a time, whose turns are sent in random order."""
CLIENTS_PER_REPLICA = 8
"""More than `configs/overload.yaml` lets run at a time, so that what they are served is all that can be."""
WARM_UP_S, CAPACITY_S = 60.0, 60.0
"""Caches are empty at first, when a replica serves far less: what counts is what it serves afterwards."""
CALM = 0.4
"""Share of the capacity when it is calm."""
SLO_PERCENT = 95
MAX_LATE_S = 1.0
"""This process may not keep up for a moment."""
MAX_OUTSTANDING = 100_000
"""Requests at a time, at most: arrivals do not wait."""


class LoadPhase(StrEnum):
    """The phases in their order."""

    CALM = "calm"
    OVERLOAD = "overload"
    AFTERWARDS = "afterwards"


@dataclass(frozen=True, slots=True)
class SustainedPlan:
    """What the command line asks for. Times in seconds."""

    factor: float
    """Times the capacity."""
    overload_s: float
    calm_s: float
    """Time of calm before the overload, and as long afterwards."""
    slo_s: float
    """Limit for the time to the first token."""
    recovery_s: float
    """Time in which everything must be normal again."""
    seed: int


@dataclass(frozen=True, slots=True)
class SustainedOutcome:
    """What came of one run."""

    plan: SustainedPlan
    engine: str
    capacity: float
    """Requests a second."""
    phase_to_exchanges: dict[LoadPhase, Sequence[Exchange]]
    ended_s: float
    """When the overload ended, on the exchanges' clock."""
    max_late_s: float

    def admitted_s(self, phase: LoadPhase) -> list[float]:
        """The times to the first token of what was served."""
        exchanges = self.phase_to_exchanges[phase]
        return [each.first_byte_s for each in exchanges if each.is_complete and each.first_byte_s is not None]

    @property
    def normal_s(self) -> float:
        """What a first token takes at most, nearly always, when it is calm."""
        return percentile(self.admitted_s(LoadPhase.CALM), 99)

    @property
    def recovered_s(self) -> float:
        """Seconds from the overload's end to the last request that was refused, failed or slower than normal.

        As many of the last may be so as in the calm before, where one long document can do it, or 1 % of all.
        """
        calm, afterwards = self.phase_to_exchanges[LoadPhase.CALM], self.phase_to_exchanges[LoadPhase.AFTERWARDS]
        odd = [each.started_s - self.ended_s for each in afterwards if not self._is_normal(each)]
        odd_share = max(0.01, sum(not self._is_normal(each) for each in calm) / len(calm))
        allowed = int(odd_share * len(afterwards))
        return max(sorted(odd)[: max(0, len(odd) - allowed)], default=0.0)

    def faults(self) -> list[str]:
        """What must not be, in words."""
        faults = []
        refused = [each for each in self.phase_to_exchanges[LoadPhase.OVERLOAD] if is_refused(each)]
        if not refused:
            faults.append("nothing was refused: raise --factor, or lower replicas.max_waiting_tokens")
        without = sum(each.retry_after is None for each in refused)
        if without:
            faults.append(f"{without} refusals had no Retry-After header")
        for phase, exchanges in self.phase_to_exchanges.items():
            others = [each for each in exchanges if not each.is_complete and not is_refused(each)]
            if others:
                faults.append(f"{phase}: {counts_text(outcome_counts(others))}")
        late_s = percentile(self.admitted_s(LoadPhase.OVERLOAD), SLO_PERCENT)
        if late_s > self.plan.slo_s:
            faults.append(f"overload: p{SLO_PERCENT} to the first token {late_s:.1f} s, not {self.plan.slo_s:.1f}")
        if self.max_late_s > MAX_LATE_S:
            faults.append(f"requests were sent up to {self.max_late_s:.1f} s late: there was less load than wanted")
        if self.recovered_s > self.plan.recovery_s:
            faults.append(f"normal again only after {self.recovered_s:.0f} s")
        return faults

    def _is_normal(self, each: Exchange) -> bool:
        return each.is_complete and each.first_byte_s is not None and each.first_byte_s <= self.normal_s


async def run(server: Server, plan: SustainedPlan, console: Console) -> SustainedOutcome:
    """Find the capacity, then calm, overload, and calm again, without a pause between them."""
    coming = interleaved_turns(server.run.model, num_open=OPEN_SESSIONS, seed=plan.seed)
    num_clients = CLIENTS_PER_REPLICA * len([each for each in await server.replicas() if not each.is_router])
    async with server.client() as client:
        load, started_s = Load(), time.monotonic()
        with console.status("Finding the capacity"):
            await _for(WARM_UP_S + CAPACITY_S, closed_loop, client, coming, load, num_clients=num_clients)
        from_s, to_s = started_s + WARM_UP_S, started_s + WARM_UP_S + CAPACITY_S
        capacity = sum(each.is_complete and from_s <= each.ended_s < to_s for each in load.exchanges) / CAPACITY_S
        console.print(f"{num_clients} clients are served {capacity:.1f} requests a second")
        loads = {phase: Load() for phase in LoadPhase}
        phases = {
            LoadPhase.CALM: (plan.calm_s, CALM),
            LoadPhase.OVERLOAD: (plan.overload_s, plan.factor),
            LoadPhase.AFTERWARDS: (plan.calm_s, CALM),
        }
        ended_s = 0.0
        async with asyncio.TaskGroup() as tasks:  # each phase's last answers come in the next one
            for phase, (seconds, factor) in phases.items():
                rate = factor * capacity
                stopped = asyncio.Event()
                sending = open_loop(
                    client, coming, loads[phase], rate=rate, stopped=stopped, max_outstanding=MAX_OUTSTANDING
                )
                tasks.create_task(sending)
                with console.status(f"{phase}: {rate:.1f} requests a second for {seconds:.0f} s"):
                    await asyncio.sleep(seconds)
                stopped.set()
                if phase is LoadPhase.OVERLOAD:
                    ended_s = time.monotonic()
    return SustainedOutcome(
        plan,
        server.run.engine,
        capacity,
        {phase: each.exchanges for phase, each in loads.items()},
        ended_s,
        max(each.max_late_s for each in loads.values()),
    )


async def _for(seconds: float, loop: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401  one of the loops
    stopped = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(loop(*args, stopped=stopped, **options))
        await asyncio.sleep(seconds)
        stopped.set()


def summary(result: SustainedOutcome) -> Table:
    """A row for each phase."""
    note = "" if result.engine == "vllm" else f", {result.engine} engines"
    table = make_table(
        f"{result.plan.factor:g} times the capacity of {result.capacity:.1f} requests/s{note}",
        left=("phase", "outcomes", "Retry-After of refusals"),
        right=("TTFT of the admitted, ms\np50", "\np95", "\np99"),
    )
    for phase, exchanges in result.phase_to_exchanges.items():
        waits = Counter(f"{each.retry_after} s" for each in exchanges if is_refused(each))
        times_s = result.admitted_s(phase)
        table.add_row(
            phase,
            counts_text(outcome_counts(exchanges)),
            counts_text(waits),
            *(milliseconds_text(times_s, percent) for percent in (50, 95, 99)),
        )
    return table


def lines(result: SustainedOutcome) -> list[str]:
    """What the table does not say."""
    seconds = result.plan.overload_s
    rate = sum(each.is_complete for each in result.phase_to_exchanges[LoadPhase.OVERLOAD]) / seconds
    return [
        f"Served under overload: {rate:.1f} requests/s, {rate / result.capacity:.2f} of capacity.",
        f"Normal again (99 % within {1000 * result.normal_s:.0f} ms) {result.recovered_s:.1f} s after its end.",
        f"Requests were sent at most {1000 * result.max_late_s:.0f} ms late.",
    ]

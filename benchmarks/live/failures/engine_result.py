"""What came of killing a replica, and what must not have come of it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.table import Table

from benchmarks.harness.load import Load, outcome_counts
from benchmarks.harness.snapshots import is_idle, outstanding
from benchmarks.live.failures.ownership import Handover
from benchmarks.live.failures.sightings import Recovery
from loadtests.client.exchange import Exchange
from loadtests.report.tables import counts_text, make_table, seconds_text
from serve_app.messages.snapshot import RouterSnapshot, short_id


class Victim(StrEnum):
    """What is killed."""

    ENGINE = "engine"
    ACTOR = "actor"


@dataclass(frozen=True, slots=True)
class EngineDeathPlan:
    """What the command line asks for."""

    kill: Victim
    rank: int | None
    """Rank of the replica to kill; None for that with the most streams."""
    streams: int
    tokens: int
    """Tokens of each stream."""
    seconds: float
    """How long most streams are meant to last."""
    rate: float
    wait_s: float
    """Seconds from the last stream's start to the kill."""
    timeout_s: float
    keep_alive: bool
    seed: int


@dataclass(frozen=True, slots=True)
class EngineDeathOutcome:
    """What came of one run; replicas are named by full id."""

    dead: str
    rank: int
    killed_s: float
    streams: Sequence[Exchange]
    background: Load
    routers_before: Sequence[RouterSnapshot]
    routers_after: Sequence[RouterSnapshot]
    recoveries: Mapping[str, Recovery]
    handovers: Mapping[str, Handover]
    """Handovers by router, where the dead replica's rank is taken again."""
    is_engine_orphaned: bool

    @property
    def streams_there(self) -> list[Exchange]:
        """Those that the killed replica served."""
        return [each for each in self.streams if each.replica == self.dead]

    @property
    def streams_elsewhere(self) -> list[Exchange]:
        """The others, those without an answer included."""
        return [each for each in self.streams if each.replica != self.dead]

    @property
    def in_flight(self) -> list[Exchange]:
        """Short requests under way when the replica was killed."""
        return [each for each in self.background.exchanges if each.started_s < self.killed_s < each.ended_s]

    @property
    def new(self) -> list[Exchange]:
        """Short requests sent after the replica was killed."""
        return [each for each in self.background.exchanges if each.started_s >= self.killed_s]

    def last_s(self, is_meant: Callable[[Exchange], bool]) -> float | None:
        """When, after the kill, the last of the new requests ended of which this is true; None if there is none."""
        return max((each.ended_s - self.killed_s for each in self.new if is_meant(each)), default=None)

    def concerns_dead(self, each: Exchange) -> bool:
        """Whether the killed replica answered a request, or was chosen for it."""
        return self.dead in (each.replica, each.routed_to)

    def faults(self) -> list[str]:
        """What must not be, in words."""
        faults = []
        failed = [each for each in self.streams_elsewhere if not each.is_complete]
        if failed:
            faults.append(f"{len(failed)} streams failed that the killed replica did not serve")
        routers = {router.router for router in self.routers_before}
        for router in sorted(routers):
            recovery = self.recoveries.get(router)
            if recovery is None or recovery.replacement is None:
                faults.append(f"router {router} never saw a replacement of rank {self.rank}")
            elif router not in self.handovers:
                faults.append(f"router {router}: no replica has rank {self.rank} at the end")
            elif not self.handovers[router].is_exact(dead=self.dead, replacement=recovery.replacement):
                faults.append(f"router {router}: other keys changed owner than the killed replica's")
        if not is_idle(self.routers_after):
            left = [row for row in outstanding(self.routers_after) if not row.is_nothing]
            faults.append(f"not idle at the end: {left}")
        return faults


def summary(result: EngineDeathOutcome, plan: EngineDeathPlan) -> Table:
    """The figures that matter."""
    table = make_table(f"{plan.kill} of replica {short_id(result.dead)} killed", left=("what",), right=("value",))
    durations = [each.duration_s for each in result.streams_elsewhere if each.duration_s is not None]
    there, elsewhere = outcome_counts(result.streams_there), outcome_counts(result.streams_elsewhere)
    new_failed = [each for each in result.new if not each.is_complete]
    rows = {
        "streams of the killed replica": counts_text(there),
        "streams of others": counts_text(elsewhere),
        f"streams of others that lasted {plan.seconds:.0f} s and longer": sum(
            each >= plan.seconds for each in durations
        ),
        "short requests under way at the kill": _by_kind(result.in_flight),
        "short requests sent afterwards": _by_kind(result.new),
        "of these, failed": len(new_failed),
        "last of these to fail": seconds_text(result.last_s(lambda each: not each.is_complete)),
        "last answer by or meant for the killed replica": seconds_text(result.last_s(result.concerns_dead)),
        "short requests not sent, too many outstanding": result.background.num_unsent,
        "engine process left behind": "yes" if result.is_engine_orphaned else "no",
    }
    for router, recovery in result.recoveries.items():
        rows |= {
            f"router {short_id(router)}: not eligible any more ({recovery.out_because})": seconds_text(recovery.out_s),
            f"router {short_id(router)}: gone": seconds_text(recovery.gone_s),
            f"router {short_id(router)}: replaced by {short_id(recovery.replacement or 'none')}": seconds_text(
                recovery.replaced_s
            ),
        }
        if (change := result.handovers.get(router)) is not None:
            rows[f"router {short_id(router)}: keys that the killed replica owned"] = change.num_owned_by_dead
            rows[f"router {short_id(router)}: keys that changed owner"] = change.moved.total()
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def _by_kind(exchanges: Sequence[Exchange]) -> str:
    return counts_text(Counter(f"{each.kind} {each.outcome_text}" for each in exchanges)) or "none"

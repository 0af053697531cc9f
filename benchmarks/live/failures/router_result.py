"""What came of killing routers: failed and unrouted requests over time. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from benchmarks.harness.load import outcome_counts
from benchmarks.harness.snapshots import is_idle, outstanding
from loadtests.client.exchange import Exchange
from loadtests.report.tables import counts_text, make_table, seconds_text
from serve_app.messages.response_headers import UNROUTED
from serve_app.messages.snapshot import RouterSnapshot, short_id

KEYED = frozenset({"prefix", "ring", "spill"})
"""The reasons of requests that were placed by their key."""
BUCKET_S = 5.0


@dataclass(frozen=True, slots=True)
class RouterDeathPlan:
    """What the command line asks for."""

    both: bool
    clients: int
    seconds: float
    """Seconds of load, at least."""
    wait_s: float
    """Seconds from the start, and from a recovery, to the next kill."""
    timeout_s: float
    """Seconds allowed for each recovery."""
    keep_alive: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Look:
    """The routers that there were at one time, by short id."""

    at_s: float
    running: frozenset[str]
    """Routers that Serve lists as running, which is late."""
    answering: frozenset[str]
    """Those that answered, and knew replicas."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Some routers, killed at once."""

    at_s: float
    router_ids: tuple[str, ...]

    def is_recovered(self, look: Look, num_routers: int) -> bool:
        """Whether that many routers run and answer, without the killed ones."""
        return (
            look.at_s > self.at_s and min(self._num_left(look.running), self._num_left(look.answering)) >= num_routers
        )

    def recovered_after_s(self, looks: Sequence[Look], num_routers: int) -> float | None:
        """Seconds from the kill; None for never."""
        return next((look.at_s - self.at_s for look in looks if self.is_recovered(look, num_routers)), None)

    def _num_left(self, router_ids: frozenset[str]) -> int:
        return len({short_id(each) for each in router_ids} - set(self.router_ids))


@dataclass(frozen=True, slots=True)
class Bucket:
    """The requests sent in a stretch of time."""

    start_s: float
    """Seconds since the load began."""
    num_sent: int
    num_failed: int
    num_unrouted: int
    num_keyed: int

    @property
    def keyed_share(self) -> float:
        """The share of the answered requests that were placed by their key."""
        return self.num_keyed / max(1, self.num_sent - self.num_failed)


@dataclass(frozen=True, slots=True)
class RouterDeathOutcome:
    """What came of one run."""

    started_s: float
    num_routers: int
    kills: Sequence[Kill]
    looks: Sequence[Look]
    exchanges: Sequence[Exchange]
    routers_after: Sequence[RouterSnapshot]

    def after_kill(self, number: int) -> list[Exchange]:
        """Requests sent, or still under way, from a kill to the next."""
        start_s = self.kills[number].at_s
        end_s = self.kills[number + 1].at_s if number + 1 < len(self.kills) else float("inf")
        return [each for each in self.exchanges if each.ended_s >= start_s and each.started_s < end_s]

    def buckets(self, *, bucket_s: float = BUCKET_S) -> list[Bucket]:
        """The requests by the time of sending."""
        number_to_exchanges: dict[int, list[Exchange]] = {}
        for each in self.exchanges:
            number_to_exchanges.setdefault(int((each.started_s - self.started_s) // bucket_s), []).append(each)
        return [
            Bucket(
                number * bucket_s,
                len(sent),
                sum(not each.is_complete for each in sent),
                sum(each.is_complete and each.reason == UNROUTED for each in sent),
                sum(each.is_complete and each.reason in KEYED for each in sent),
            )
            for number, sent in sorted(number_to_exchanges.items())
        ]

    def faults(self) -> list[str]:
        """What must not be, in words."""
        faults = [
            f"{self.num_routers} routers were not back after {', '.join(kill.router_ids)} had been killed"
            for kill in self.kills
            if kill.recovered_after_s(self.looks, self.num_routers) is None
        ]
        num_failed = sum(not each.is_complete for each in self.exchanges)
        if num_failed:
            faults.append(f"{num_failed} requests failed, which none should for want of a router")
        if len(self.routers_after) != self.num_routers:
            faults.append(f"{len(self.routers_after)} routers answer at the end, {self.num_routers} did before")
        if not is_idle(self.routers_after):
            left = [row for row in outstanding(self.routers_after) if not row.is_nothing]
            faults.append(f"not idle at the end: {left}")
        return faults


def summary(result: RouterDeathOutcome) -> Table:
    """A column of figures for each kill."""
    titles = [f"{len(kill.router_ids)} of {result.num_routers} killed" for kill in result.kills]
    table = make_table("Requests from each kill on", left=("what",), right=titles)

    def add(name: str, value: Callable[[int, Kill], object]) -> None:
        table.add_row(name, *(str(value(number, kill)) for number, kill in enumerate(result.kills)))

    def failed(number: int) -> list[Exchange]:
        return [each for each in result.after_kill(number) if not each.is_complete]

    add("requests", lambda number, _: len(result.after_kill(number)))
    add("outcomes", lambda number, _: counts_text(outcome_counts(result.after_kill(number))))
    add(
        "first of these to fail",
        lambda number, kill: seconds_text(min((each.ended_s - kill.at_s for each in failed(number)), default=None)),
    )
    add(
        "last of these to fail",
        lambda number, kill: seconds_text(max((each.ended_s - kill.at_s for each in failed(number)), default=None)),
    )
    add(
        "served without a router's decision",
        lambda number, _: sum(each.reason == UNROUTED for each in result.after_kill(number)),
    )
    add(
        "all routers back after",
        lambda _, kill: seconds_text(kill.recovered_after_s(result.looks, result.num_routers)),
    )
    return table


def over_time(result: RouterDeathOutcome) -> Table:
    """What happened to requests by the time they were sent."""
    kills = ", ".join(f"{kill.at_s - result.started_s:.1f} s" for kill in result.kills)
    table = make_table(
        f"Over time; killed at {kills}", left=("from s",), right=("sent", "failed", "unrouted", "placed by key")
    )
    for each in result.buckets():
        cells = (each.num_sent, each.num_failed or "", each.num_unrouted or "", f"{each.keyed_share:.1%}")
        table.add_row(f"{each.start_s:.0f}", *map(str, cells))
    return table

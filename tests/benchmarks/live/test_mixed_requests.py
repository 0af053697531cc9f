"""What makes the run fail."""

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.harness.engine_counters import CacheCounters
from benchmarks.harness.snapshots import EngineTotals, Snapshot
from benchmarks.live.agreement import Counted
from benchmarks.live.mixed_requests import Result, agreement_table, funnel_table, outcome_table, outstanding_table
from loadtests.client.answers import Outcome
from loadtests.client.exchange import Exchange
from router import Funnel, Loss
from serve_app.telemetry.funnel_report import as_snapshot
from tests.benchmarks.routers import engine, replica, router

NONE = Counted({"one": EngineTotals(0, 0, 0, 0, {})}, {})


def routers(name: str = "a", **fields: object) -> list[Snapshot]:
    """One, with one replica."""
    return [router(name, {"app#LLM#one": replica(engine=engine(), **fields)})]


def with_funnel(offered: int, reused: int) -> list[Snapshot]:
    """One that placed prompts of so many tokens."""
    funnel = Funnel(1, offered, reused, reused, reused, lost={Loss.NEW: offered - reused})
    (snapshot,) = routers()
    return [{**snapshot, "accounts": {"rank": {"0": {"funnel": as_snapshot(funnel)}}}}]


def result(
    *, before: list[Snapshot] | None = None, after: list[Snapshot] | None = None, counted: Counted = NONE
) -> Result:
    """Of a run with nothing wrong, unless told otherwise."""
    exchanges = [
        Exchange("1", "chat", 0.0, outcome=Outcome.COMPLETE, status=200),
        Exchange("2", "chat", 0.0, outcome=Outcome.REFUSED, status=503),
    ]
    return Result(exchanges, 1.0, before or routers(), after or routers(), NONE, counted)


OURS = with_funnel(1000, 320)
OUR_TOKENS = {"one": EngineTotals(1000, 320, 1100, 320, {"aborted_before_first_token": 100})}


@pytest.mark.parametrize(
    ("outcome", "faults"),
    [
        (result(), []),
        (result(after=OURS, counted=Counted(OUR_TOKENS, {"one": CacheCounters(1100, 320)})), []),
        (
            result(after=OURS, counted=Counted(OUR_TOKENS, {"one": CacheCounters(1102, 320)})),
            ["differ by more than 0.1%", "2 tokens looked up without a cause"],
        ),
        (
            result(after=OURS, counted=Counted(OUR_TOKENS, {"one": CacheCounters(1100, 300)})),
            ["differ by more than 0.1%", "0 tokens looked up without a cause, 320 reused, 300 found"],
        ),
        (
            result(after=with_funnel(990, 320), counted=Counted(OUR_TOKENS, {"one": CacheCounters(1100, 320)})),
            ["10 tokens looked up without a cause"],
        ),
        (result(after=routers(pending_tokens=3)), ["counts outstanding requests at one"]),
        (result(after=routers("b")), ["were replaced"]),
        (result(after=[*routers(), *routers("b")]), ["were replaced"]),
    ],
)
def test_each_fault_is_told(outcome: Result, faults: list[str]) -> None:
    """Work left behind, totals that differ, members that changed."""
    told = outcome.faults()
    assert len(told) == len(faults)
    assert all(part in fault for part, fault in zip(faults, told, strict=True))


def test_the_tables_say_it_all() -> None:
    """Outcomes by status, what is outstanding, both differences and the causes."""
    console = Console(width=160, file=StringIO())
    outcome = result(after=OURS, counted=Counted(OUR_TOKENS, {"one": CacheCounters(1100, 320)}))
    with console.capture() as printed:
        for table in (
            outcome_table(outcome),
            outstanding_table(outcome.routers),
            agreement_table(outcome.agreements),
            funnel_table(outcome.funnels),
        ):
            console.print(table)
    for part in ("503: 1, complete: 1", "pending tokens", "+9.0909%", "+0.0000%", "aborted_before_first_token: 100"):
        assert part in printed.get()

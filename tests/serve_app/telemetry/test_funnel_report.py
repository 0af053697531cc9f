"""The sum of the routers' funnels, and its table."""

from io import StringIO

from rich.console import Console
from rich.table import Table

from router import CacheRecord, Funnel, Loss, ReplicaId, RequestId
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.snapshot import RouterSnapshot, Totals
from serve_app.telemetry.funnel_report import LOSS_TO_MEANING, STAGES, add_up, by_rank, by_tenant, comparison, table
from tests.snapshots import router


def make_funnel(*, reused: int, lost: dict[Loss, int]) -> Funnel:
    """Of one prompt, sent to the one replica that there is."""
    offered = reused + sum(lost.values())
    funnel = Funnel()
    funnel.add(CacheRecord(RequestId("a"), ReplicaId("r"), "m", "t", offered, reused, reused, reused, lost))
    return funnel


def text(printed: Table) -> str:
    """As printed."""
    console = Console(file=StringIO(), width=110)
    console.print(printed)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_funnels_add_up_and_come_back_from_their_snapshots() -> None:
    """Of two routers, with a cause in common and one apart; by rank, and of all replicas."""
    funnels = [
        make_funnel(reused=70, lost={Loss.NEW: 20, Loss.PARTIAL_BLOCK: 10}),
        make_funnel(reused=0, lost={Loss.NEW: 99, Loss.EVICTED: 1}),
        make_funnel(reused=5, lost={Loss.NEW: 5}),
    ]
    one, two, three = map(PromptTotals, funnels)
    routers = [
        router("a", totals=Totals(by_rank={10: one, 9: three}, by_tenant={"b": one})),
        router("b", totals=Totals(by_rank={10: two}, by_tenant={"b": two, "a": three})),
    ]
    routers = [RouterSnapshot.from_plain(snapshot.as_plain()) for snapshot in routers]
    rank_to_funnel, tenant_to_funnel = by_rank(routers), by_tenant(routers)
    assert (list(rank_to_funnel), list(tenant_to_funnel)) == ([9, 10], ["a", "b"])
    assert rank_to_funnel[9] == tenant_to_funnel["a"] == funnels[2]
    total = rank_to_funnel[10]
    assert tenant_to_funnel["b"] == total
    total.check_integrity()
    lost = {Loss.NEW: 119, Loss.PARTIAL_BLOCK: 10, Loss.EVICTED: 1}
    assert total == Funnel(2, offered=200, reachable=70, selected=70, reused=70, lost=lost)


def test_all_replicas_add_up() -> None:
    """To what the table of the whole shows."""
    total = add_up([make_funnel(reused=70, lost={Loss.NEW: 30}), make_funnel(reused=5, lost={Loss.EVICTED: 15})])
    total.check_integrity()
    assert (total.prompts, total.offered, total.reused) == (2, 120, 75)


def test_each_replica_has_a_row() -> None:
    """With the two causes that cost it most."""
    lost = {Loss.NEW: 200, Loss.PARTIAL_BLOCK: 50, Loss.EVICTED: 250}
    output = text(comparison("replica", {2: make_funnel(reused=500, lost=lost), 7: Funnel()}))
    [row, empty] = [line for line in output.splitlines() if "│" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        *("2", "1", "1,000", "50.0%", "50.0%", "50.0%"),
        "evicted 25.0%, new 20.0%",
    ]
    assert [cell.strip() for cell in empty.split("│")[1:-1]] == ["7", "0", "0", "-", "-", "-", ""]


def test_the_table_shows_every_stage_and_the_causes_that_there_were() -> None:
    """As shares of what was offered."""
    output = text(table(make_funnel(reused=1_500, lost={Loss.NEW: 400, Loss.SPILLED: 100})))
    assert "2,000" in output
    assert "75.0%" in output
    assert "lost: spilled" in output
    assert "5.0%" in output
    assert "lost: evicted" not in output
    assert all(stage in output for stage in STAGES)


def test_nothing_yet_is_no_error() -> None:
    """Before the first prompt."""
    assert "0 prompts" in text(table(Funnel()))


def test_every_cause_has_a_meaning() -> None:
    """Or it would not be shown."""
    assert set(LOSS_TO_MEANING) == set(Loss)

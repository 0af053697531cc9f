"""The sum of the routers' funnels, and its table."""

from io import StringIO

from rich.console import Console

from router import CacheRecord, Funnel, Loss, ReplicaId, RequestId
from serve_app.funnel_report import MEANINGS, STAGES, add_up, as_snapshot, table


def make_funnel(*, reused: int, lost: dict[Loss, int]) -> Funnel:
    """Of one prompt, sent to the one replica that there is."""
    offered = reused + sum(lost.values())
    funnel = Funnel()
    funnel.add(CacheRecord(RequestId("a"), ReplicaId("r"), "m", "t", offered, reused, reused, reused, lost))
    return funnel


def text(funnel: Funnel) -> str:
    """As printed."""
    console = Console(file=StringIO(), width=110)
    console.print(table(funnel))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_funnels_add_up_and_come_back_from_their_snapshots() -> None:
    """Of two routers, with a cause in common and one apart."""
    funnels = [
        make_funnel(reused=70, lost={Loss.NEW: 20, Loss.PARTIAL_BLOCK: 10}),
        make_funnel(reused=0, lost={Loss.NEW: 99, Loss.EVICTED: 1}),
    ]
    total = add_up(map(as_snapshot, funnels))
    total.check_integrity()
    assert as_snapshot(total) == {
        "prompts": 2,
        "offered": 200,
        "reachable": 70,
        "selected": 70,
        "reused": 70,
        "lost": {"new": 119, "partial_block": 10, "evicted": 1},
    }


def test_the_table_shows_every_stage_and_the_causes_that_there_were() -> None:
    """As shares of what was offered."""
    output = text(make_funnel(reused=1_500, lost={Loss.NEW: 400, Loss.SPILLED: 100}))
    assert "2,000" in output
    assert "75.0%" in output
    assert "lost: spilled" in output
    assert "5.0%" in output
    assert "lost: evicted" not in output
    assert all(stage in output for stage in STAGES)


def test_nothing_yet_is_no_error() -> None:
    """Before the first prompt."""
    assert "0 prompts" in text(Funnel())


def test_every_cause_has_a_meaning() -> None:
    """Or it would not be shown."""
    assert set(MEANINGS) == set(Loss)

"""What routers' snapshots are read for."""

from typing import Any

import pytest

from benchmarks.harness.snapshots import (
    NOT_LOOKED_UP,
    NOTHING,
    EngineTotals,
    engine_totals,
    is_idle,
    outstanding,
    rank_to_replica,
    unreadable,
)
from tests.snapshots import engine, replica, router


def test_what_routers_cannot_read_is_counted_together() -> None:
    """By their reasons."""
    routers = [router("a", {}, unreadable={"not_json": 2}), router("b", {}, unreadable={"not_json": 1, "busy": 4})]
    assert unreadable(routers) == {"not_json": 3, "busy": 4}


@pytest.mark.parametrize(
    "busy",
    [
        {"pending_tokens": 1},
        {"waiting": 1},
        {"running": 1},
        {"engine": engine(waiting=1)},
        {"engine": engine(running=1)},
    ],
)
def test_one_thing_outstanding_anywhere_is_not_idle(busy: dict[str, Any]) -> None:
    """At any replica, by any router's account or the engine's own."""
    idle = router(
        "a", {"app#LLM#one": replica(engine=engine(waiting=None)), "app#LLM#two": replica(1, engine=engine(prompt=5))}
    )
    assert is_idle([idle])
    routers = [idle, router("b", {"app#LLM#one": replica(), "app#LLM#two": replica(1, **busy)})]
    assert not is_idle(routers)
    assert [(row.router, row.replica) for row in outstanding(routers) if not row.is_nothing] == [("b", "two")]


def test_nobody_there_is_not_idle() -> None:
    """Neither without routers nor without replicas."""
    assert not is_idle([])
    assert not is_idle([router("a", {})])


def test_replicas_are_found_by_rank() -> None:
    """By full id."""
    snapshot = router("a", {"app#LLM#one": replica(1), "app#LLM#two": replica(0)})
    assert rank_to_replica(snapshot) == {0: "app#LLM#two", 1: "app#LLM#one"}


def test_of_two_routers_who_heard_differently_the_later_is_believed() -> None:
    """Totals only grow; an aborted request alone is news as well."""
    early = {
        "app#LLM#one": replica(engine=engine(prompt=10, cached=5)),
        "app#LLM#two": replica(engine=engine(prompt=7, uncounted_tokens={"aborted": 3})),
        "app#LLM#three": replica(),
    }
    late = {
        "app#LLM#one": replica(engine=engine(prompt=20, cached=6)),
        "app#LLM#two": replica(engine=engine(prompt=7)),
    }
    expected = {"one": EngineTotals(20, 6, 20, 6, {}), "two": EngineTotals(7, 0, 7, 0, {"aborted": 3})}
    assert engine_totals([router("a", early), router("b", late)]) == expected
    assert engine_totals([router("b", late), router("a", early)]) == expected


def test_a_difference_of_totals_leaves_out_what_did_not_change() -> None:
    """And counts from nothing for a replica that is new."""
    before = EngineTotals(10, 4, 12, 5, {"old": 3, "both": 1})
    after = EngineTotals(15, 6, 19, 9, {"old": 3, "both": 5, "new": 2})
    assert after.since(before) == EngineTotals(5, 2, 7, 4, {"both": 4, "new": 2})
    assert after.since(NOTHING) == after


def test_what_vllm_never_looks_up_cannot_be_in_its_queries() -> None:
    """What was aborted may be."""
    assert EngineTotals(0, 0, 0, 0, {NOT_LOOKED_UP: 100, "aborted_before_first_token": 7}).maybe_queried_tokens == 7

"""The live table of replicas."""

from io import StringIO
from typing import Any

import msgspec
from rich.console import Console

from router import CacheRecord, Funnel, Loss, ReplicaId, RequestId
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.snapshot import EngineSnapshot, ReplicaSnapshot, RouterSnapshot, Totals
from serve_app.telemetry.replica_table import replica_rows, routing_line, table
from tests import snapshots


def funnel(*, prompts: int = 1, reused: int = 40, selected: int = 60) -> Funnel:
    """The funnel of prompts of 100 tokens each."""
    total = Funnel()
    record = CacheRecord(RequestId("a"), ReplicaId("r"), "m", "t", 100, selected, selected, reused, {})
    record.lost.update({Loss.EVICTED: selected - reused, Loss.NEW: 100 - selected})
    for _ in range(prompts):
        total.add(record)
    return total


ENGINE = EngineSnapshot(waiting=1, running=2, kv_use=0.25, preempted=7)


def replica(rank: int, **changes: Any) -> ReplicaSnapshot:
    """A replica whose cache is half full, with a request waiting."""
    busy: dict[str, Any] = {"pending_tokens": 1234, "waiting": 1, "running": 2, "believed_blocks": 50, "engine": ENGINE}
    return snapshots.replica(rank, **(busy | changes))


def router(name: str, rank_to_funnel: dict[int, Funnel], **decisions: int) -> RouterSnapshot:
    """A router that knows two replicas."""
    replicas = {
        "app#LLM#two": replica(1, excluded="silent", parity="template", engine=None),
        "app#LLM#one": replica(0),
    }
    by_rank = {rank: PromptTotals(funnel) for rank, funnel in rank_to_funnel.items()}
    return snapshots.router(name, replicas, decisions=decisions, totals=Totals(by_rank=by_rank))


def text(*shown: Any) -> str:
    """As printed."""
    output = StringIO()
    Console(file=output, width=140).print(*shown)
    return output.getvalue()


def test_each_replica_has_a_line_with_what_was_predicted_and_what_came_true() -> None:
    """The sum of both routers' prompts, ratios of sums; a total below."""
    now = [router("a", {0: funnel(prompts=3)}), router("b", {0: funnel(reused=60), 1: funnel()})]
    first, second = replica_rows(now)
    assert (first.rank, first.name, first.state, first.cached_share) == (0, "one", "ok", 0.5)
    assert (first.funnel.prompts, first.funnel.selected, first.funnel.reused) == (4, 240, 180)
    assert (second.name, second.state, second.kv_use) == ("two", "silent, keys: template", None)
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text(table([first, second], seconds=None)).splitlines()
        if "│" in line
    ]
    assert lines[0] == ["0", "one", "ok", "1", "2", "1,234", "25%", "7", "50%", "4", "60.0%", "45.0%", "receipts"]
    assert lines[1][:10] == ["1", "two", "silent, keys: template", "1", "2", "1,234", "-", "-", "50%", "1"]
    assert lines[-1] == ["all", "", "", "2", "4", "2,468", "", "7", "", "5", "60.0%", "44.0%", ""]


def test_a_window_counts_what_came_within_it() -> None:
    """A router that was replaced meanwhile counts from its start, and the one before it not at all."""
    before = [router("a", {0: funnel(prompts=3)}, prefix=3), router("old", {1: funnel(prompts=9)}, prefix=9)]
    now = [router("a", {0: funnel(prompts=5)}, prefix=4, load=1), router("new", {1: funnel()}, prefix=1)]
    assert [row.funnel.prompts for row in replica_rows(now, before)] == [2, 1]
    assert routing_line(now, before) == "prefix_affinity, 2 routers; decisions: load 1, prefix 2"


def test_preemptions_are_those_of_the_window() -> None:
    """Of a replica that is new since then all, and an unknown number of one whose engine or version does not say."""
    before, now = router("a", {}), router("a", {})
    now.replicas["app#LLM#one"] = replica(0, engine=msgspec.structs.replace(ENGINE, preempted=9))
    now.replicas["app#LLM#new"] = replica(2)
    now.replicas["app#LLM#old"] = replica(3, engine=EngineSnapshot(kv_use=0.25))
    assert [row.preempted for row in replica_rows([now], [before])] == [2, None, 7, None]


def test_without_routers_there_is_nothing_to_show() -> None:
    """While an application starts, say."""
    assert replica_rows([]) == []
    assert routing_line([]) == "no router is running"
    assert "Replicas" in text(table([], seconds=None))


def test_without_prompts_there_is_no_rate() -> None:
    """Before the first one, or in a quiet window."""
    now = [router("a", {0: funnel()}, prefix=1)]
    shown = replica_rows(now, now)
    printed = text(table(shown, seconds=60, note=" (simulated engines)"))
    assert "prompts of the last 60 s (simulated engines)" in printed
    cells = [line.split("│")[-4:-2] for line in printed.splitlines() if "│" in line]
    assert [[each.strip() for each in pair] for pair in cells] == [["-", "-"]] * 3
    assert "none" in routing_line(now, now)

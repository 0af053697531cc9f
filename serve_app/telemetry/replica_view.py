"""The replicas as the routers see them, live in a terminal: `warmroute top`. Pure but for `watch`."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from router import Funnel
from serve_app.telemetry.funnel_report import add_up, by_rank

Snapshot = Mapping[str, Any]
"""One router's, as `RunningApplication.routers` gives it."""

REFRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One line."""

    rank: int
    name: str
    state: str
    """`ok`, or what is wrong."""
    is_excluded: bool
    """Whether it is out of the routers' choice."""
    knowledge: str
    waiting: int
    """Sequences without a first token."""
    running: int
    """Those that are being decoded."""
    pending_tokens: int
    kv_use: float | None
    """Of the engine's memory, what running requests take."""
    preempted: int | None
    """Running requests that had to give theirs back, of the window; None where the engine does not say."""
    held: float
    """Of the engine's memory, what is believed to be filled with prefixes."""
    ring_share: float
    """Of all keys, those that are its own on the ring."""
    funnel: Funnel
    """Of the window."""


def replicas(now: Sequence[Snapshot], before: Sequence[Snapshot] = ()) -> list[Replica]:
    """By rank; of prompts, those since `before`. Load and state are what the first router says.

    Routers tell each other all they book, so that any of them knows; a router that has started since `before` counts
    from its start.
    """
    if not now:
        return []
    rank_to_funnel, earlier = _difference(now, before), before[0]["replicas"] if before else {}
    return sorted(
        (
            _replica(
                replica_id,
                each,
                now[0]["block_size"],
                rank_to_funnel.get(each["rank"], Funnel()),
                preempted_before=_preempted(earlier.get(replica_id, {})) or 0,
            )
            for replica_id, each in now[0]["replicas"].items()
        ),
        key=lambda each: (each.rank, each.name),
    )


def _replica(
    replica_id: str, replica: Mapping[str, Any], block_size: int, funnel: Funnel, *, preempted_before: int
) -> Replica:
    preempted = _preempted(replica)
    wrong = [replica["excluded"]] if replica["excluded"] else []
    wrong += [f"keys: {replica['parity']}"] if replica["parity"] != "ok" else []
    return Replica(
        rank=replica["rank"],
        name=replica_id.rpartition("#")[2],
        state=", ".join(wrong) or "ok",
        is_excluded=replica["excluded"] is not None,
        knowledge=replica["knowledge"],
        waiting=replica["waiting"],
        running=replica["running"],
        pending_tokens=replica["pending_tokens"],
        kv_use=(replica["engine"] or {}).get("kv_use"),
        preempted=None if preempted is None else preempted - preempted_before,
        held=replica["believed_blocks"] * block_size / replica["kv_capacity_tokens"],
        ring_share=replica["ring_share"],
        funnel=funnel,
    )


def _preempted(replica: Mapping[str, Any]) -> int | None:
    """Since its engine's start."""
    preempted: int | None = (replica.get("engine") or {}).get("preempted")
    return preempted


def _difference(now: Sequence[Snapshot], before: Sequence[Snapshot]) -> dict[int, Funnel]:
    """What each rank got since then."""
    ids = {each["router"] for each in now}
    rank_to_earlier = by_rank(each for each in before if each["router"] in ids)
    result = by_rank(now)
    for rank, earlier in rank_to_earlier.items():
        result[rank].subtract(earlier)
    return result


def table(shown: Sequence[Replica], *, seconds: float | None, note: str = "") -> Table:
    """A line for each replica, and one for all. `seconds` is the window's length; None for all since the start."""
    span = "since the routers started" if seconds is None else f"of the last {seconds:.0f} s"
    result = Table(title=f"Replicas; prompts {span}{note}", title_justify="left", show_footer=len(shown) > 1)
    total = add_up(each.funnel for each in shown)
    for header, footer in (
        ("", "all"),
        ("replica", ""),
        ("state", ""),
        ("wait", f"{sum(each.waiting for each in shown):,}"),
        ("run", f"{sum(each.running for each in shown):,}"),
        ("pending\ntokens", f"{sum(each.pending_tokens for each in shown):,}"),
        ("KV\nin use", ""),
        ("pre-\nempted", f"{sum(each.preempted or 0 for each in shown):,}"),
        ("held", ""),
        ("prompts", f"{total.prompts:,}"),
        ("hit rate\npredicted", _share(total, "selected")),
        ("\nactual", _share(total, "reused")),
        ("known by", ""),
    ):
        is_text = header in {"replica", "state", "known by"}
        result.add_column(header, footer, justify="left" if is_text else "right", no_wrap=True)
    for each in shown:
        result.add_row(
            str(each.rank),
            each.name,
            each.state,
            f"{each.waiting:,}",
            f"{each.running:,}",
            f"{each.pending_tokens:,}",
            "-" if each.kv_use is None else f"{each.kv_use:.0%}",
            "-" if each.preempted is None else f"{each.preempted:,}",
            f"{each.held:.0%}",
            f"{each.funnel.prompts:,}",
            _share(each.funnel, "selected"),
            _share(each.funnel, "reused"),
            each.knowledge,
        )
    return result


def routing_line(now: Sequence[Snapshot], before: Sequence[Snapshot] = ()) -> str:
    """The policy, and how many decisions it made for which reason."""
    if not now:
        return "no router is running"
    reasons: dict[str, int] = {}
    earlier = {each["router"]: each["decisions"] for each in before}
    for router in now:
        for reason, number in router["decisions"].items():
            reasons[reason] = reasons.get(reason, 0) + number - earlier.get(router["router"], {}).get(reason, 0)
    counts = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()) if number)
    return f"{now[0]['policy']}, {len(now)} routers; decisions: {counts or 'none'}"


def _share(funnel: Funnel, stage: str) -> str:
    return f"{getattr(funnel, stage) / funnel.offered:.1%}" if funnel.offered else "-"


def watch(read: Callable[[], Sequence[Snapshot]], console: Console, *, window_s: float, note: str) -> None:
    """Show it until Ctrl-C."""
    history: deque[tuple[float, Sequence[Snapshot]]] = deque()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            now_s, now = time.monotonic(), read()
            while history and now_s - history[0][0] > window_s:
                history.popleft()
            since_s, before = history[0] if history else (now_s, now)
            history.append((now_s, now))
            shown = table(replicas(now, before), seconds=now_s - since_s, note=note)
            live.update(Group(shown, routing_line(now, before)), refresh=True)
            time.sleep(REFRESH_S)

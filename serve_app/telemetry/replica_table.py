"""A live table of the replicas, as the routers see them: `warmroute top`. Pure, but for `watch`."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from router import Funnel
from serve_app.messages.snapshot import EngineSnapshot, ReplicaSnapshot, RouterSnapshot, short_id
from serve_app.telemetry.funnel_report import add_up, by_rank, share_text

REFRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """One replica's row."""

    rank: int
    name: str
    """The short id."""
    state: str
    """`ok`, or what is wrong."""
    is_excluded: bool
    """Whether the replica is not eligible."""
    knowledge: str
    """How the routers know what it has cached: `kv_events` or `receipts`."""
    waiting: int
    """Sequences without a first token."""
    running: int
    """Sequences that are being decoded."""
    pending_tokens: int
    kv_use: float | None
    """The share of the KV cache that running requests use, 0 to 1."""
    preempted: int | None
    """How often running requests had to give their memory back, in the window; None where the engine does not say."""
    cached_share: float
    """The share of the KV cache that is filled with prefixes, 0 to 1, as far as the routers know."""
    ring_share: float
    """The share of all keys that the ring gives to this replica, 0 to 1."""
    funnel: Funnel
    """What became of the window's prompts."""


def replica_rows(now: Sequence[RouterSnapshot], before: Sequence[RouterSnapshot] = ()) -> list[ReplicaRow]:
    """A row for each replica, by rank, with the prompts since `before`. The first router tells load and state.

    One router is enough, because routers tell each other of every decision. A router that has started since `before`
    counts from its start.
    """
    if not now:
        return []
    rank_to_funnel = _difference(now, before)
    rows = [
        _row(
            replica_id,
            replica,
            now[0].block_size or 0,
            rank_to_funnel.get(replica.rank, Funnel()),
            preempted_before=_engine(before[0].replicas.get(replica_id) if before else None).preempted or 0,
        )
        for replica_id, replica in now[0].replicas.items()
    ]
    return sorted(rows, key=lambda row: (row.rank, row.name))


def _row(
    replica_id: str, replica: ReplicaSnapshot, block_size: int, funnel: Funnel, *, preempted_before: int
) -> ReplicaRow:
    engine = _engine(replica)
    wrong = [replica.excluded] if replica.excluded else []
    wrong += [f"keys: {replica.parity}"] if replica.parity != "ok" else []
    return ReplicaRow(
        rank=replica.rank,
        name=short_id(replica_id),
        state=", ".join(wrong) or "ok",
        is_excluded=replica.excluded is not None,
        knowledge=replica.knowledge,
        waiting=replica.waiting,
        running=replica.running,
        pending_tokens=replica.pending_tokens,
        kv_use=engine.kv_use,
        preempted=None if engine.preempted is None else engine.preempted - preempted_before,
        cached_share=replica.believed_blocks * block_size / replica.kv_capacity_tokens,
        ring_share=replica.ring_share,
        funnel=funnel,
    )


def _engine(replica: ReplicaSnapshot | None) -> EngineSnapshot:
    return EngineSnapshot() if replica is None or replica.engine is None else replica.engine


def _difference(now: Sequence[RouterSnapshot], before: Sequence[RouterSnapshot]) -> Mapping[int, Funnel]:
    """The prompts of each rank since then."""
    running = {snapshot.router for snapshot in now}
    rank_to_funnel = by_rank(now)
    for rank, earlier in by_rank(snapshot for snapshot in before if snapshot.router in running).items():
        rank_to_funnel[rank].subtract(earlier)
    return rank_to_funnel


def table(rows: Sequence[ReplicaRow], *, seconds: float | None, note: str = "") -> Table:
    """A row for each replica, and one for all. `seconds` is the window's length; None for all since the start."""
    span = "since the routers started" if seconds is None else f"of the last {seconds:.0f} s"
    result = Table(title=f"Replicas; prompts {span}{note}", title_justify="left", show_footer=len(rows) > 1)
    total = add_up(row.funnel for row in rows)
    for header, footer in (
        ("", "all"),
        ("replica", ""),
        ("state", ""),
        ("wait", f"{sum(row.waiting for row in rows):,}"),
        ("run", f"{sum(row.running for row in rows):,}"),
        ("pending\ntokens", f"{sum(row.pending_tokens for row in rows):,}"),
        ("KV\nin use", ""),
        ("pre-\nempted", f"{sum(row.preempted or 0 for row in rows):,}"),
        ("KV\ncached", ""),
        ("prompts", f"{total.prompts:,}"),
        ("hit rate\npredicted", share_text(total.selected, total.offered)),
        ("\nactual", share_text(total.reused, total.offered)),
        ("known by", ""),
    ):
        is_text = header in {"replica", "state", "known by"}
        result.add_column(header, footer, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        result.add_row(*_cells(row))
    return result


def _cells(row: ReplicaRow) -> tuple[str, ...]:
    return (
        str(row.rank),
        row.name,
        row.state,
        f"{row.waiting:,}",
        f"{row.running:,}",
        f"{row.pending_tokens:,}",
        "-" if row.kv_use is None else f"{row.kv_use:.0%}",
        "-" if row.preempted is None else f"{row.preempted:,}",
        f"{row.cached_share:.0%}",
        f"{row.funnel.prompts:,}",
        share_text(row.funnel.selected, row.funnel.offered),
        share_text(row.funnel.reused, row.funnel.offered),
        row.knowledge,
    )


def routing_line(now: Sequence[RouterSnapshot], before: Sequence[RouterSnapshot] = ()) -> str:
    """The policy, and how many decisions it made for which reason."""
    if not now:
        return "no router is running"
    reasons: Counter[str] = Counter()
    earlier = {snapshot.router: snapshot.decisions for snapshot in before}
    for snapshot in now:
        reasons.update(snapshot.decisions)
        reasons.subtract(earlier.get(snapshot.router, {}))
    counts = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()) if number)
    return f"{now[0].policy}, {len(now)} routers; decisions: {counts or 'none'}"


def watch(read: Callable[[], Sequence[RouterSnapshot]], console: Console, *, window_s: float, note: str) -> None:
    """Show the table until Ctrl-C."""
    history: deque[tuple[float, Sequence[RouterSnapshot]]] = deque()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            now_s, now = time.monotonic(), read()
            while history and now_s - history[0][0] > window_s:
                history.popleft()
            since_s, before = history[0] if history else (now_s, now)
            history.append((now_s, now))
            shown = table(replica_rows(now, before), seconds=now_s - since_s, note=note)
            live.update(Group(shown, routing_line(now, before)), refresh=True)
            time.sleep(REFRESH_S)

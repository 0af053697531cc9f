"""The routers' funnels as one table: where prompt tokens went. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from router import Funnel, Loss
from serve_app.telemetry.definitions import RANK, TENANT

STAGES = ("offered", "reachable", "selected", "reused")
"""Fields of `Funnel` and of its records, each a part of the one before."""
TOKEN_SUMS = (*STAGES, "shared", "shared_reused")
"""All of a `Funnel` in tokens, but for its losses."""
SUMS = ("prompts", *TOKEN_SUMS)
MOST_LOSSES = 2
MEANINGS: dict[Loss, str] = {
    Loss.PARTIAL_BLOCK: "the prompt's end, which fills no block",
    Loss.NEW: "no replica ever held it, as far as is remembered",
    Loss.EVICTED: "it was held, and had to make room",
    Loss.GONE: "its holder left, is out of the choice, or was emptied",
    Loss.SPILLED: "another replica holds it",
    Loss.UNCOMPUTED: "another prompt was to compute it there, not in time",
    Loss.MISMATCH: "engine and router disagree on the prompt's length",
    Loss.NO_KEY: "the router could not read the prompt",
}


def as_snapshot(funnel: Funnel) -> dict[str, Any]:
    """Plain data; tokens but for the number of prompts."""
    sums = {name: getattr(funnel, name) for name in SUMS}
    return {**sums, "lost": {cause.value: tokens for cause, tokens in funnel.lost.items()}}


def from_snapshot(snapshot: Mapping[str, Any]) -> Funnel:
    """What `as_snapshot` made plain."""
    lost = {Loss(cause): tokens for cause, tokens in snapshot["lost"].items()}
    return Funnel(**{name: snapshot[name] for name in SUMS}, lost=lost)


def by_rank(routers: Iterable[Mapping[str, Any]]) -> dict[int, Funnel]:
    """From the snapshots of all routers, of which each counts the prompts that it placed."""
    funnels = _of_routers(routers, RANK)
    return {rank: funnels[str(rank)] for rank in sorted(map(int, funnels))}


def by_tenant(routers: Iterable[Mapping[str, Any]]) -> dict[str, Funnel]:
    """Likewise; empty where there are no tenants."""
    return dict(sorted(_of_routers(routers, TENANT).items()))


def _of_routers(routers: Iterable[Mapping[str, Any]], label: str) -> dict[str, Funnel]:
    funnels: defaultdict[str, Funnel] = defaultdict(Funnel)
    for router in routers:
        for value, account in router["accounts"][label].items():
            funnels[value].merge(from_snapshot(account["funnel"]))
    return funnels


def add_up(funnels: Iterable[Funnel]) -> Funnel:
    """Their sum."""
    total = Funnel()
    for funnel in funnels:
        total.merge(funnel)
    return total


def comparison(label: str, named: Mapping[Any, Funnel]) -> Table:
    """A row for each replica, or tenant: its share of each stage, and what it lost most tokens to."""
    result = Table(title=f"By {label}", title_justify="left")
    for name in (label, "prompts", *STAGES):
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("lost most to")
    for name, funnel in named.items():
        shares = [_amount(getattr(funnel, stage), funnel)[1] for stage in STAGES[1:]]
        losses = sorted(funnel.lost.items(), key=lambda each: -each[1])[:MOST_LOSSES]
        most = ", ".join(f"{cause.value} {_amount(tokens, funnel)[1]}" for cause, tokens in losses)
        result.add_row(str(name), f"{funnel.prompts:,}", f"{funnel.offered:,}", *shares, most)
    return result


def table(funnel: Funnel, *, note: str = "") -> Table:
    """Stages and causes, in tokens and as shares of what was offered; the note goes into the title."""
    result = Table(title=f"Prompt tokens of {funnel.prompts:,} prompts{note}", title_justify="left")
    result.add_column("")
    result.add_column("tokens", justify="right", no_wrap=True)
    result.add_column("share", justify="right", no_wrap=True)
    result.add_column("")
    stage_to_meaning = {
        "offered": "by clients",
        "reachable": "on the replica that held most",
        "selected": "on the replica that was chosen",
        "reused": "by its engine's own count",
    }
    for stage in STAGES:
        tokens = getattr(funnel, stage)
        is_last = stage == STAGES[-1]
        result.add_row(stage, *_amount(tokens, funnel), stage_to_meaning[stage], end_section=is_last)
    shared, reused = funnel.shared, funnel.shared_reused
    result.add_row("shared", *_amount(shared, funnel), "begins other prompts too, such as a system prompt")
    share = f"{reused / shared:.1%}" if shared else "-"
    result.add_row("shared, reused", f"{reused:,}", share, "of these; 70 % and more is healthy", end_section=True)
    for cause, meaning in MEANINGS.items():
        if cause in funnel.lost:
            result.add_row(f"lost: {cause.value}", *_amount(funnel.lost[cause], funnel), meaning)
    return result


def _amount(tokens: int, funnel: Funnel) -> tuple[str, str]:
    return f"{tokens:,}", f"{tokens / funnel.offered:.1%}" if funnel.offered else "-"

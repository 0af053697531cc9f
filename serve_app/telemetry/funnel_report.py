"""The routers' funnels as one table: where prompt tokens went. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from router import Funnel, Loss
from serve_app.messages.snapshot import RouterSnapshot

STAGES = ("offered", "reachable", "selected", "reused")
"""Fields of `Funnel` and of its records; each is a part of the one before."""
TOKEN_SUMS = (*STAGES, "shared", "shared_reused")
"""All fields of a `Funnel` in tokens, except its losses."""
MOST_LOSSES = 2
STAGE_TO_MEANING = {
    "offered": "by clients",
    "reachable": "on the replica that had most of it cached",
    "selected": "on the replica that was chosen",
    "reused": "by its engine's own count",
}
LOSS_TO_MEANING: dict[Loss, str] = {
    Loss.PARTIAL_BLOCK: "the prompt's end, which fills no block",
    Loss.NEW: "no replica ever had it cached, as far as is remembered",
    Loss.EVICTED: "it was cached, and evicted",
    Loss.GONE: "the replica that had it left, is not eligible, or was emptied",
    Loss.SPILLED: "another replica has it cached",
    Loss.UNCOMPUTED: "another prompt was to compute it there, not in time",
    Loss.MISMATCH: "engine and router disagree on the prompt's length",
    Loss.NO_KEY: "the router could not read the prompt",
}


def by_rank(routers: Iterable[RouterSnapshot]) -> dict[int, Funnel]:
    """Each rank's funnel, over all routers, each of which counts the prompts that it placed."""
    rank_to_funnel: defaultdict[int, Funnel] = defaultdict(Funnel)
    for snapshot in routers:
        for rank, totals in snapshot.totals.by_rank.items():
            rank_to_funnel[rank].merge(totals.funnel)
    return dict(sorted(rank_to_funnel.items()))


def by_tenant(routers: Iterable[RouterSnapshot]) -> dict[str, Funnel]:
    """Each tenant's funnel, over all routers; empty where there are no tenants."""
    tenant_to_funnel: defaultdict[str, Funnel] = defaultdict(Funnel)
    for snapshot in routers:
        for tenant, totals in snapshot.totals.by_tenant.items():
            tenant_to_funnel[tenant].merge(totals.funnel)
    return dict(sorted(tenant_to_funnel.items()))


def add_up(funnels: Iterable[Funnel]) -> Funnel:
    """The sum of some funnels."""
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
        shares = [share_text(getattr(funnel, stage), funnel.offered) for stage in STAGES[1:]]
        losses = sorted(funnel.lost.items(), key=lambda loss: -loss[1])[:MOST_LOSSES]
        most = ", ".join(f"{cause.value} {share_text(tokens, funnel.offered)}" for cause, tokens in losses)
        result.add_row(str(name), f"{funnel.prompts:,}", f"{funnel.offered:,}", *shares, most)
    return result


def table(funnel: Funnel, *, note: str = "") -> Table:
    """Stages and causes, in tokens and as shares of what was offered; the note goes into the title."""
    result = Table(title=f"Prompt tokens of {funnel.prompts:,} prompts{note}", title_justify="left")
    result.add_column("")
    result.add_column("tokens", justify="right", no_wrap=True)
    result.add_column("share", justify="right", no_wrap=True)
    result.add_column("")

    def add(name: str, tokens: int, meaning: str, *, of: int = funnel.offered, ends: bool = False) -> None:
        result.add_row(name, f"{tokens:,}", share_text(tokens, of), meaning, end_section=ends)

    for stage, meaning in STAGE_TO_MEANING.items():
        add(stage, getattr(funnel, stage), meaning, ends=stage == STAGES[-1])
    add("shared", funnel.shared, "a prefix of other prompts too, such as a system prompt")
    add("shared, reused", funnel.shared_reused, "of these; 70 % and more is healthy", of=funnel.shared, ends=True)
    for cause, meaning in LOSS_TO_MEANING.items():
        if cause in funnel.lost:
            add(f"lost: {cause.value}", funnel.lost[cause], meaning)
    return result


def share_text(tokens: int, of: int) -> str:
    """A share as a percentage; `-` where there is nothing to share."""
    return f"{tokens / of:.1%}" if of else "-"

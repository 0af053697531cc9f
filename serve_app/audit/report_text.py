"""An audit in the terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table

from serve_app.audit.audit import Audit, Cost
from serve_app.audit.checklist import Item, ItemVerdict
from serve_app.audit.kind import AuditFinding, DefectKind

MAX_FINDINGS = 40
MAX_APPLICATIONS = 10
VERDICT_TO_STYLE = {ItemVerdict.DONE: "green", ItemVerdict.OPEN: "red", ItemVerdict.NOT_APPLICABLE: "dim"}


def as_text(audit: Audit, kinds: Sequence[DefectKind]) -> Iterator[RenderableType]:
    """The report, part by part."""
    yield from flaw_lines(audit)
    yield totals_line(audit)
    yield _applications(audit)
    if audit.findings:
        yield _findings(audit, kinds)
        if len(audit.findings) > MAX_FINDINGS:
            yield f"... and {len(audit.findings) - MAX_FINDINGS:,} more: see --json"
        yield from _remedies(audit, kinds)
    else:
        yield "No findings."
    yield after_line(audit)


def totals_line(audit: Audit) -> str:
    """The log in one sentence."""
    sums, size = audit.as_is, f"one cache of {audit.capacity_tokens:,} tokens, blocks of {audit.block_size}"
    counts = f"{sums.num_requests:,} requests, {sums.offered_tokens:,} prompt tokens, {sums.cached_tokens:,} reusable"
    return f"{counts}: hit rate {sums.hit_rate:.1%} ({size})"


def after_line(audit: Audit) -> str:
    """What fixing would give, in one sentence."""
    normal, fixed = audit.normalised, audit.all_fixed
    return (
        f"As it is, {audit.as_is.computed_tokens:,} tokens must be computed. In normal form (--fix): hit rate "
        f"{normal.hit_rate:.1%}, {normal.computed_tokens:,} to compute. With all findings fixed: {fixed.hit_rate:.1%}, "
        f"{fixed.computed_tokens:,}."
    )


def flaw_lines(audit: Audit) -> Iterator[str]:
    """Lines that were not read, by what is wrong with them."""
    for flaw, count in audit.flaws.flaw_to_count.most_common():
        places = ", ".join(map(str, audit.flaws.flaw_to_places[flaw]))
        more = ", ..." if count > len(audit.flaws.flaw_to_places[flaw]) else ""
        yield f"Not read, {flaw.value}: {count:,} line{'s' if count > 1 else ''} ({places}{more})"


def dollars_text(cost: Cost | None) -> str:
    """Dollars as text; empty where no price is known."""
    if cost is None or cost.dollars is None:
        return ""
    return f"{cost.dollars:,.2f}" if cost.dollars >= 1 else f"{cost.dollars:.4f}"


def place_text(finding: AuditFinding) -> str:
    """The field, and where in it."""
    return finding.where if finding.offset is None else f"{finding.where} +{finding.offset:,}"


def checklist_table(items: Sequence[Item]) -> Table:
    """The checklist as a table, item by item."""
    table = Table("", "", "")
    for item in items:
        style = VERDICT_TO_STYLE[item.verdict]
        table.add_row(f"[{style}]{item.verdict.value}[/{style}]", item.text, item.why)
    return table


def _applications(audit: Audit) -> Table:
    table = Table(title="Applications, by prompt tokens")
    for name in ("first seen", "system, tools"):
        table.add_column(name)
    for name in ("requests", "tokens", "hit rate", "shared"):
        table.add_column(name, justify="right")
    table.add_column("conversations part in")
    for each in audit.applications[:MAX_APPLICATIONS]:
        application, divergence = each.application, each.divergence
        num_tools = 0 if application.tools is None else len(next(iter(application.tools.order.signature_to_use)))
        system = "-" if application.system is None else f"{len(application.system.text):,} chars"
        table.add_row(
            str(application.place),
            f"{system}, {num_tools} tools",
            f"{each.num_requests:,}",
            f"{each.offered_tokens:,}",
            f"{each.cached_tokens / each.offered_tokens:.1%}",
            "" if divergence is None else f"{divergence.shared_tokens:,}",
            "" if divergence is None else _divergence_text(divergence.where, divergence.offset, divergence.block),
        )
    return table


def _divergence_text(where: str, offset: int | None, block: int) -> str:
    return f"{where}{'' if offset is None else f' +{offset:,}'} (block {block:,})"


def _findings(audit: Audit, kinds: Sequence[DefectKind]) -> Table:
    kind_to_title = {kind.name: kind.title for kind in kinds}
    table = Table(title=f"{len(audit.findings):,} findings, by what fixing saves")
    for name in ("finding", "where", "what"):
        table.add_column(name)
    for name in ("requests", "tokens saved", "dollars"):
        table.add_column(name, justify="right")
    table.add_column("example")
    for finding in audit.findings[:MAX_FINDINGS]:
        cost = audit.cost(finding)
        table.add_row(
            kind_to_title[finding.kind],
            place_text(finding),
            finding.what,
            f"{finding.num_requests:,} of {finding.num_in_group:,}",
            "" if cost is None else f"{cost.tokens:,}",
            dollars_text(cost),
            str(finding.example),
        )
    return table


def _remedies(audit: Audit, kinds: Sequence[DefectKind]) -> Iterator[str]:
    found = {finding.kind for finding in audit.findings}
    yield from (f"{kind.title}: {kind.remedy}" for kind in kinds if kind.name in found)


def make_console(*, stderr: bool = False) -> Console:
    """A console that is as wide as tables need where its output is no terminal."""
    console = Console(highlight=False, soft_wrap=False, stderr=stderr)
    if not console.is_terminal:
        console.width = 160
    return console

"""An audit as one page that fetches nothing. There is no text of a prompt in it."""

from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from serve_app.audit.audit import Audit
from serve_app.audit.cache_replay import Branch
from serve_app.audit.checklist import Item
from serve_app.audit.kind import DefectKind, KindName
from serve_app.audit.report_text import after_line, dollars_text, flaw_lines, place_text, totals_line
from serve_app.audit.suggested_layout import suggested_layout

TREE_WIDTH, ROW_HEIGHT = 1000, 26
MIN_WIDTH = 3.0
"""Least width of a stretch in the picture."""
BAR_WIDTH = 420


class Box(NamedTuple):
    """A stretch of blocks in the picture of shared prefixes."""

    x: float
    y: float
    width: float
    label: str
    title: str
    shade: float
    """How dark the stretch is, 0 to 1, by its tokens."""


class Bar(NamedTuple):
    """What fixing one kind would save."""

    title: str
    tokens: int
    dollars: str
    width: float


def as_html(audit: Audit, kinds: Sequence[DefectKind], items: Sequence[Item]) -> str:
    """The page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text())
    boxes = _boxes(audit)
    return template.render(
        audit=audit,
        totals=totals_line(audit),
        after=after_line(audit),
        flaws=list(flaw_lines(audit)),
        boxes=boxes,
        tree_height=max((box.y for box in boxes), default=0) + ROW_HEIGHT,
        tree_width=TREE_WIDTH,
        row_height=ROW_HEIGHT,
        bars=_bars(audit, kinds),
        kind_by_name={kind.name: kind for kind in kinds},
        found_kinds=[kind for kind in kinds if any(finding.kind is kind.name for finding in audit.findings)],
        place_text=place_text,
        dollars_text=dollars_text,
        layouts=[(each, suggested_layout(each.application)) for each in audit.applications[:10]],
        items=items,
    )


def _boxes(audit: Audit) -> list[Box]:
    """Rows are depths, widths are requests: a stretch is as wide as the requests that have it, under the one before."""
    branches = audit.branches
    total = sum(branch.num_requests for branch in branches if branch.depth == 0)
    if not total:
        return []
    most = max(branch.num_blocks for branch in branches)
    starts: list[float] = [0.0]  # where the next stretch of each depth begins
    boxes = []
    for branch in branches:
        del starts[branch.depth + 1 :]
        x, width = starts[branch.depth], branch.num_requests / total * TREE_WIDTH
        starts[branch.depth] += width
        starts.append(x)
        if width >= MIN_WIDTH:
            boxes.append(_box(branch, x, width, audit.block_size, most))
    return boxes


def _box(branch: Branch, x: float, width: float, block_size: int, most: int) -> Box:
    tokens = branch.num_blocks * block_size
    end = (branch.start_blocks + branch.num_blocks) * block_size
    ways = f"{branch.num_requests:,} requests, which go on in {branch.num_ways_on:,} ways"
    title = f"tokens {branch.start_blocks * block_size:,} to {end:,}: {ways}"
    label = f"{tokens:,} tokens x {branch.num_requests:,}" if width > 150 else f"{tokens:,}" if width > 45 else ""  # noqa: PLR2004  what fits
    return Box(
        round(x, 1),
        branch.depth * ROW_HEIGHT,
        round(width, 1),
        label,
        title,
        round(0.25 + 0.6 * branch.num_blocks / most, 2),
    )


def _bars(audit: Audit, kinds: Sequence[DefectKind]) -> list[Bar]:
    name_to_title = {kind.name: kind.title for kind in kinds}
    found: set[KindName] = {finding.kind for finding in audit.findings}
    costs = sorted(
        ((name, cost) for name, cost in audit.kind_to_cost.items() if name in found and cost.tokens > 0),
        key=lambda each: -each[1].tokens,
    )
    most = max((cost.tokens for _, cost in costs), default=1)
    return [
        Bar(name_to_title[name], cost.tokens, dollars_text(cost), round(cost.tokens / most * BAR_WIDTH, 1))
        for name, cost in costs
    ]

"""The same tools in another order."""

from collections.abc import Iterator

from serve_app.audit.kind import AuditFinding, DefectKind, Fix, FixedRequest, KindName
from serve_app.audit.kinds.styles import finding
from serve_app.audit.layout import tool_list, with_value
from serve_app.audit.learned import Learned, PlacedRequest
from serve_app.audit.tool_sets import ToolSet, by_name


def _sets(learned: Learned) -> Iterator[ToolSet]:
    return (each for each in learned.tool_sets.all() if each.order.num_others)


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Sets of tools that come in several orders."""
    for tools in _sets(learned):
        first, other, *_ = orders = list(tools.order.signature_to_use)
        place = next(index for index, pair in enumerate(zip(first, other, strict=True)) if pair[0] != pair[1])
        what = f"{len(first)} tools in {len(orders):,} orders"
        yield finding(KindName.TOOL_ORDER, str(tools.number), f"tools[{place}]", tools.order, what)


def make_fix(learned: Learned) -> Fix:
    """Tools are sorted by name."""
    found = {tools.number for tools in _sets(learned)}

    def fix(seen: PlacedRequest) -> FixedRequest | None:
        if seen.tool_set is None or seen.tool_set.number not in found:
            return None
        body = seen.request.body
        return FixedRequest(with_value(body, ("tools",), by_name(tool_list(body))), str(seen.tool_set.number))

    return fix


KIND = DefectKind(
    KindName.TOOL_ORDER,
    "Tools in another order",
    "Sort tools by name before they are sent (--fix does).",
    find,
    make_fix,
)

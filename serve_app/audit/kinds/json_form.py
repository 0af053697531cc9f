"""JSON that says the same and is written differently: in tools' schemas, and in system prompts and forms."""

from collections.abc import Iterator

from serve_app.audit.kind import AuditFinding, DefectKind, Fix, FixedRequest, KindName
from serve_app.audit.kinds.styles import finding
from serve_app.audit.layout import path_text, tool_list, with_value
from serve_app.audit.learned import SEPARATOR, Learned, PlacedRequest, with_unit
from serve_app.audit.text_form import with_json_in_order
from serve_app.audit.text_groups import TextGroup
from serve_app.audit.tool_sets import ToolSet, with_sorted_keys


def _sets(learned: Learned) -> Iterator[ToolSet]:
    return (each for each in learned.tool_sets.all() if each.keys.num_others)


def _groups(learned: Learned) -> Iterator[TextGroup]:
    """System prompts: what users wrote themselves they may write as they like."""
    return (group for group in learned.systems if group.json_style.num_others)


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Sets of tools whose keys come in several orders, and texts with JSON in several styles."""
    for tools in _sets(learned):
        what = f"the same schemas with their keys or values in {len(tools.keys.signature_to_use):,} orders"
        yield finding(KindName.JSON_FORM, f"tools {tools.number}", "tools", tools.keys, what)
    for group in _groups(learned):
        where = path_text(learned.example_texts("system", group)[0].path)
        what = f"JSON written in {len(group.json_style.signature_to_use):,} styles"
        yield finding(KindName.JSON_FORM, f"system {group.number}", where, group.json_style, what)


def make_fix(learned: Learned) -> Fix:
    """Sorted keys and one spacing, in all requests of the groups."""
    sets = {tools.number for tools in _sets(learned)}
    groups = {group.number for group in _groups(learned)}

    def fix(seen: PlacedRequest) -> FixedRequest | None:
        body, subject = seen.request.body, ""
        if seen.tool_set is not None and seen.tool_set.number in sets:
            body = with_value(body, ("tools",), list(map(with_sorted_keys, tool_list(body))))
            subject = f"tools {seen.tool_set.number}"
        unit = seen.system
        if unit is not None and unit.group.number in groups:
            text = SEPARATOR.join(with_json_in_order(each.text) for each in unit.texts)
            body, subject = with_unit(body, unit, text) or body, subject or f"system {unit.group.number}"
        return FixedRequest(body, subject) if subject else None

    return fix


KIND = DefectKind(
    KindName.JSON_FORM,
    "JSON with unsorted keys or other spacing",
    "Write JSON in one way: sorted keys, one spacing (--fix does).",
    find,
    make_fix,
)

"""Variants of a text that differ in spaces at the end, line ends, Unicode forms or invisible characters."""

from collections.abc import Iterator

from serve_app.audit.kind import AuditFinding, DefectKind, Fix, FixedRequest, KindName
from serve_app.audit.kinds.styles import finding
from serve_app.audit.layout import path_text
from serve_app.audit.learned import SEPARATOR, Learned, PlacedRequest, with_unit
from serve_app.audit.text_form import without_trivia
from serve_app.audit.text_groups import TextGroup


def _groups(learned: Learned) -> Iterator[TextGroup]:
    """System prompts: what users wrote themselves they may write as they like."""
    return (group for group in learned.systems if group.trivia.num_others)


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Groups whose texts were not put in order in one and the same way."""
    for group in _groups(learned):
        where = path_text(learned.example_texts("system", group)[0].path)
        what = f"{len(group.trivia.signature_to_use)} ways to end lines and texts"
        yield finding(KindName.TRIVIA, f"system {group.number}", where, group.trivia, what)


def make_fix(learned: Learned) -> Fix:
    """Without trivia, in all requests of the groups."""
    found = {group.number for group in _groups(learned)}

    def fix(seen: PlacedRequest) -> FixedRequest | None:
        unit = seen.system
        if unit is None or unit.group.number not in found:
            return None
        body = with_unit(seen.request.body, unit, SEPARATOR.join(without_trivia(each.text) for each in unit.texts))
        return None if body is None else FixedRequest(body, f"system {unit.group.number}")

    return fix


KIND = DefectKind(
    KindName.TRIVIA,
    "Variants that differ by trivia",
    "Normalise texts once, where they are made: NFC, line feeds, no spaces at the ends of lines (--fix does).",
    find,
    make_fix,
)

"""The static texts of a log: what several requests begin with."""

from collections.abc import Iterator
from typing import NamedTuple

from serve_app.audit.kind import AuditFinding, KindName
from serve_app.audit.layout import path_text
from serve_app.audit.learned import Learned, field_at
from serve_app.audit.slot_kinds import SlotKind, slot_kind
from serve_app.audit.text_groups import TextGroup

MIN_REQUESTS = 2


class SharedText(NamedTuple):
    """A stretch that all texts of a group have, or some of them as a variant."""

    unit: str
    """`system`, `user` or `tools`."""
    group: TextGroup
    start: int
    """The stretch's offset in the group's text, in characters."""
    text: str


def shared_texts(learned: Learned) -> Iterator[SharedText]:
    """The static texts of system prompts, tools and forms that at least two requests have."""
    for unit, groups in (("system", learned.systems), ("user", learned.users), ("tools", learned.tool_texts)):
        for group in groups:
            if group.num_requests < MIN_REQUESTS or (unit == "user" and not group.template.spans):
                continue
            starts = (0, *(end for _, end in group.template.spans))
            for start, stretch in zip(starts, group.template.stretches, strict=True):
                yield SharedText(unit, group, start, stretch)
            yield from _variants(unit, group)


def _variants(unit: str, group: TextGroup) -> Iterator[SharedText]:
    """Not dates, names or documents: those are one request's, or one conversation's."""
    for number, slot in enumerate(group.slots()):
        if slot_kind(group, number, slot)[0] not in {SlotKind.VOLATILE, SlotKind.CONTENT}:
            for value, use in slot.value_to_use.items():
                if use.num_requests >= MIN_REQUESTS:
                    yield SharedText(unit, group, slot.start, value)


def finding(learned: Learned, kind: KindName, shared: SharedText, offset: int, what: str) -> AuditFinding:
    """A finding about what is at an offset of such a text."""
    start = shared.start + offset
    texts = learned.example_texts(shared.unit, shared.group)
    within: int | None = None
    where = f"tools[{shared.group.text[:start].count(chr(10))}] by name"
    if texts:
        path, within = field_at(texts, start)
        where = path_text(path)
    return AuditFinding(
        kind,
        f"{shared.unit} {shared.group.number} {start} {what}",
        where,
        within,
        shared.group.num_requests,
        shared.group.num_requests,
        shared.group.place,
        what,
    )

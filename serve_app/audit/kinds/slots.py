"""What the kinds that look at slots share: going over them, and giving texts other values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from serve_app.audit.kind import AuditFinding, FixedRequest, KindName
from serve_app.audit.layout import last_user_path, path_text, value_at, with_value
from serve_app.audit.learned import SEPARATOR, Learned, PlacedRequest, Unit, field_at, with_unit
from serve_app.audit.slot_kinds import SlotKind, an_unusual_use, slot_kind, usual_value
from serve_app.audit.text_groups import Slot, TextGroup


class SlotPlace(NamedTuple):
    """A slot of a text that many requests have."""

    unit: str
    """`system` or `user`."""
    group: TextGroup
    number: int
    """The slot's number, from the start of the text."""
    slot: Slot
    kind: SlotKind
    what: str

    @property
    def subject(self) -> str:
        """The slot's name in findings."""
        return f"{self.unit} {self.group.number} {self.number}"


def places(learned: Learned) -> Iterator[SlotPlace]:
    """All slots of all system prompts and first user's texts."""
    for unit, groups in (("system", learned.systems), ("user", learned.users)):
        for group in groups:
            for number, slot in enumerate(group.slots()):
                yield SlotPlace(unit, group, number, slot, *slot_kind(group, number, slot))


def finding(learned: Learned, kind: KindName, place: SlotPlace, what: str) -> AuditFinding:
    """A finding about what is in a slot."""
    use = an_unusual_use(place.slot)
    texts = learned.example_texts(place.unit, place.group)
    path, offset = field_at(texts, place.slot.start) if texts else ((place.unit,), 0)
    return AuditFinding(
        kind,
        place.subject,
        path_text(path),
        offset,
        place.slot.num_others,
        place.group.num_requests,
        use.place,
        what,
    )


def values_of(unit: Unit) -> Sequence[str] | None:
    """What a request has in its text's slots; None if that was not understood."""
    return unit.group.template.fit(unit.located.form.text)


def usual_values(places_of_group: Sequence[SlotPlace]) -> dict[int, str]:
    """The usual values, by the slots' numbers."""
    return {place.number: usual_value(place.slot) for place in places_of_group}


def with_usual(
    seen: PlacedRequest, group_to_usual: Mapping[tuple[str, int], Mapping[int, str]], *, is_kept: bool
) -> FixedRequest | None:
    """A request with the usual values in some slots; `is_kept` moves its own to the end of the last user's message."""
    body, subject, moved = seen.request.body, "", list[str]()
    for name, unit in seen.units():
        number_to_usual = group_to_usual.get((name, unit.group.number), {})
        values = values_of(unit) if number_to_usual else None
        if not values:
            continue
        usual = [number_to_usual.get(number, value) for number, value in enumerate(values)]
        # Those that have the usual values, too: what is filled in is in order, which they need not be.
        body = with_unit(body, unit, unit.group.template.fill(usual)) or body
        if is_kept or usual != list(values):
            subject = subject or f"{name} {unit.group.number} {min(number_to_usual)}"
        if is_kept:  # the usual ones as well: no one could tell them apart from what is left in their place
            moved += [values[number].replace(SEPARATOR, "\n") for number in number_to_usual]
    return FixedRequest(_with_appended(body, moved), subject or "usual") if body is not seen.request.body else None


def _with_appended(body: dict[str, Any], moved: Sequence[str]) -> dict[str, Any]:
    path = last_user_path(body)
    if path is None or not any(moved):
        return body
    return with_value(body, path, "\n\n".join((value_at(body, path), *filter(None, moved))))

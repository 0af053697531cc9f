"""Dates, times, ids, names and counters before text that all requests share."""

from collections.abc import Iterator

from serve_app.audit.kind import AuditFinding, DefectKind, Fix, FixedRequest, KindName
from serve_app.audit.kinds.slots import SlotPlace, finding, places, usual_values, with_usual
from serve_app.audit.learned import Learned, PlacedRequest
from serve_app.audit.slot_kinds import MIN_STATIC_CHARS, NAME, SlotKind, static_chars_after


def _places(learned: Learned) -> Iterator[SlotPlace]:
    return (each for each in places(learned) if each.kind is SlotKind.VOLATILE and _is_early(learned, each))


def _is_early(learned: Learned, place: SlotPlace) -> bool:
    if static_chars_after(place.group, place.number) >= MIN_STATIC_CHARS:
        return place.unit == "system" or place.what != NAME  # of users' own texts `late_static` tells
    # Most chat templates write tools after the system prompt; the conversation is there in any case.
    return place.unit == "system" and (learned.has_tools(place.group) or learned.is_changing(place.group, place.slot))


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Slots of system prompts and forms with such values, and something static behind them."""
    for place in _places(learned):
        what = f"{place.what}, {len(place.slot.value_to_use):,} different ones"
        yield finding(learned, KindName.VOLATILE, place, what)


def make_fix(learned: Learned) -> Fix:
    """The values stand at the end of the last user's message, and what they stood in is the same for all."""
    group_to_places: dict[tuple[str, int], list[SlotPlace]] = {}
    for place in _places(learned):
        group_to_places.setdefault((place.unit, place.group.number), []).append(place)
    group_to_usual = {group: usual_values(of_group) for group, of_group in group_to_places.items()}

    def fix(seen: PlacedRequest) -> FixedRequest | None:
        return with_usual(seen, group_to_usual, is_kept=True)

    return fix


KIND = DefectKind(
    KindName.VOLATILE,
    "Volatile content before static text",
    "Move it behind everything that is static: to the end of the last user message, or into one of its own there.",
    find,
    make_fix,
)

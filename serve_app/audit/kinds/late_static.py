"""Retrieved documents, questions and other content before instructions that all requests share."""

from collections.abc import Iterator, Sequence
from typing import Any

from serve_app.audit.kind import AuditFinding, DefectKind, Fix, FixedRequest, KindName
from serve_app.audit.kinds.slots import SlotPlace, finding, places, values_of
from serve_app.audit.layout import first_user_texts, last_user_path, value_at, with_value
from serve_app.audit.learned import SEPARATOR, Learned, PlacedRequest, with_unit
from serve_app.audit.slot_kinds import MIN_STATIC_CHARS, NAME, SlotKind, static_chars_after


def _places(learned: Learned) -> Iterator[SlotPlace]:
    for place in places(learned):
        is_users_text = place.unit == "user" and place.kind is SlotKind.VOLATILE and place.what == NAME
        is_late = static_chars_after(place.group, place.number) >= MIN_STATIC_CHARS
        is_before = place.unit == "system" and (
            learned.has_tools(place.group) or learned.is_changing(place.group, place.slot)
        )  # of tools or a conversation, which come after it
        if (is_late or is_before) and (place.kind is SlotKind.CONTENT or is_users_text):
            yield place


def find(learned: Learned) -> Iterator[AuditFinding]:
    """Slots with contents, and something static behind them."""
    for place in _places(learned):
        after = static_chars_after(place.group, place.number)
        contents = f"{len(place.slot.value_to_use):,} different contents"
        what = f"{contents} before {after:,} characters that are always the same"
        yield finding(learned, KindName.LATE_STATIC, place, what)


def make_fix(learned: Learned) -> Fix:
    """What is static comes first. Contents of a system prompt open the conversation if they are one conversation's, and
    end its last user's message if they change within it; those of a form come after it.
    """
    group_to_numbers: dict[tuple[str, int], set[int]] = {}
    changing: set[int] = set()  # system prompts whose contents change within a conversation
    for place in _places(learned):
        group_to_numbers.setdefault((place.unit, place.group.number), set()).add(place.number)
        if place.unit == "system" and learned.is_changing(place.group, place.slot):
            changing.add(place.group.number)

    def fix(seen: PlacedRequest) -> FixedRequest | None:
        body, subject = seen.request.body, ""
        for name, unit in reversed(list(seen.units())):  # a form first, before a system prompt's contents come into it
            numbers = group_to_numbers.get((name, unit.group.number))
            values = values_of(unit) if numbers else None
            if not numbers or not values:
                continue
            static = unit.group.template.fill(["" if each in numbers else value for each, value in enumerate(values)])
            contents = [values[each].replace(SEPARATOR, "\n") for each in sorted(numbers) if values[each]]
            fixed = with_unit(body, unit, "\n\n".join((static, *contents)) if name == "user" else static)
            if fixed is None:
                continue
            body, subject = fixed, subject or f"{name} {unit.group.number} {min(numbers)}"
            if name == "system":
                body = _with_contents(body, contents, is_first=unit.group.number not in changing)
        return FixedRequest(body, subject) if subject else None

    return fix


def _with_contents(body: dict[str, Any], contents: Sequence[str], *, is_first: bool) -> dict[str, Any]:
    first = next(iter(first_user_texts(body)), None)
    path = first.path if is_first and first is not None else last_user_path(body)
    if path is None or not contents:
        return body
    text = value_at(body, path)
    return with_value(body, path, "\n\n".join((*contents, text) if is_first else (text, *contents)))


KIND = DefectKind(
    KindName.LATE_STATIC,
    "Retrieved or other content before the static part",
    "Put the instructions first and the retrieved chunks or the user's text behind them.",
    find,
    make_fix,
)

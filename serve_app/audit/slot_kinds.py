"""What a place in which texts differ is: a date, a name, a retrieved document, an edit of the static text, ..."""

from collections.abc import Sequence
from enum import StrEnum
from itertools import islice, pairwise
from statistics import median

from serve_app.audit.patterns import is_version, volatile_name
from serve_app.audit.text_groups import Slot, TextGroup, Use

CONTEXT_CHARS = 48
MAX_LOOKED_AT = 64
"""Number of a slot's values that are looked at."""
LONG_CHARS = 160
"""A value that is longer is a document, a list, a question: content, not a name or a number."""
MIN_STATIC_CHARS = 200
"""Static text after a place that differs, for which it matters: some three blocks of 16 tokens."""
MIN_NAMES = 3
"""Different values that look like nothing in particular, until they are taken for names."""
MAX_EDITS = 8
NAME = "name or id"
"""What looks like nothing in particular."""


class SlotKind(StrEnum):
    """What a slot is, by what its values look like."""

    VERSION = "version marker"
    VOLATILE = "volatile"
    CONTENT = "content"
    EDIT = "edit"
    VARIANT = "variant"
    """One of few values, which come and go: a language, an environment."""


def slot_kind(group: TextGroup, index: int, slot: Slot) -> tuple[SlotKind, str]:
    """What a slot is, and in a word or two what its values are."""
    before, after = (
        group.template.stretches[index][-CONTEXT_CHARS:],
        group.template.stretches[index + 1][:CONTEXT_CHARS],
    )
    values = [value for value in islice(slot.value_to_use, MAX_LOOKED_AT) if value.strip()]
    num_values = len(slot.value_to_use)
    is_edit = 1 < num_values <= MAX_EDITS and _one_after_another(slot)
    if len(values) < 2:  # noqa: PLR2004  it takes two to be different
        return (SlotKind.EDIT, "text") if is_edit else (SlotKind.VARIANT, "there or not")
    if all(is_version(before, value, after) for value in values):
        return SlotKind.VERSION, "version marker"
    if median(map(len, values)) > LONG_CHARS:
        if is_edit:
            return SlotKind.EDIT, "text"
        return (
            (SlotKind.CONTENT, "texts of many kinds") if num_values >= MIN_NAMES else (SlotKind.VARIANT, "one of few")
        )
    return _short_kind(before, values, after, num_values, is_edit=is_edit)


def _short_kind(
    before: str, values: Sequence[str], after: str, num_values: int, *, is_edit: bool
) -> tuple[SlotKind, str]:
    names = [volatile_name(before, value, after) for value in values]
    name = max(set(names), key=names.count)
    if name is None or 2 * names.count(name) < len(values):
        name = NAME
    if name not in {NAME, "number"}:
        return SlotKind.VOLATILE, name
    if is_edit:
        return SlotKind.EDIT, "text"
    return (SlotKind.VOLATILE, name) if num_values >= MIN_NAMES else (SlotKind.VARIANT, "one of few")


def static_chars_after(group: TextGroup, index: int) -> int:
    """What all variants have after the slot."""
    return sum(map(len, group.template.stretches[index + 1 :]))


def usual_value(slot: Slot) -> str:
    """The value that most requests have."""
    return max(slot.value_to_use.items(), key=lambda item: item[1].num_requests)[0]


def an_unusual_use(slot: Slot) -> Use:
    """The use of the first value that is not the usual one."""
    usual = usual_value(slot)
    return min((use for value, use in slot.value_to_use.items() if value != usual), key=lambda use: use.first)


def _one_after_another(slot: Slot) -> bool:
    """Each value came when the one before had gone, and some stayed for a while."""
    uses = sorted(slot.value_to_use.values(), key=lambda use: use.first)
    in_order = all(one.last < other.first for one, other in pairwise(uses))
    return in_order and 2 * sum(use.num_requests > 1 for use in uses) >= len(uses)

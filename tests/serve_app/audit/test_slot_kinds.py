"""What a place in which texts differ is, by its values; and what volatile values look like."""

from pathlib import Path

import pytest

from serve_app.audit.log_file import LogPlace
from serve_app.audit.patterns import is_version, volatile_name
from serve_app.audit.slot_kinds import (
    MAX_EDITS,
    SlotKind,
    an_unusual_use,
    slot_kind,
    static_chars_after,
    usual_value,
)
from serve_app.audit.text_groups import MAX_VALUES, Slot, TextGroup, TextGroups, Use
from tests.serve_app.audit.logs import POLICY


def group_of(*values: str, before: str = "", after: str = f"\n{POLICY}") -> TextGroup:
    """The group of texts that differ in one place."""
    groups = TextGroups()
    for number, value in enumerate(values, 1):
        group = groups.see(f"{before}{value}{after}", number, LogPlace(Path("log"), number, 0))
    return group


def kind_of(*values: str, before: str = "", after: str = f"\n{POLICY}") -> tuple[SlotKind, str]:
    """What their only slot is."""
    group = group_of(*values, before=before, after=after)
    (slot,) = group.slots()
    return slot_kind(group, 0, slot)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("2026-11-30", "date or time"),
        ("2026-11-30T10:15:00Z", "date or time"),
        ("30.11.2026", "date or time"),
        ("11/30/2026", "date or time"),
        ("November 30, 2026", "date or time"),
        ("30 Nov 2026", "date or time"),
        ("Monday", "date or time"),
        ("10:15", "date or time"),
        ("10:15:59 PM", "date or time"),
        ("Monthly", None),
        ("Sunny", None),
        ("1015", "number"),
        ("-3.5", "number"),
        ("6f1c1a52-8f0b-4c4e-9d6a-2b7f3c1d9e00", "uuid"),
        ("6F1C1A52-8F0B-4C4E-9D6A-2B7F3C1D9E00", "uuid"),
        ("6f1c1a52-8f0b-4c4e-9d6a", "random id"),
        ("sess_9aF3kQ7Lm2Zx", "random id"),
        ("sessionidentifier", None),
        ("ann@posteo.de", "e-mail address"),
        ("ann at posteo", None),
        ("French", None),
        ("", None),
    ],
)
def test_volatile_values_are_told_by_their_form(value: str, name: str | None) -> None:
    """And words are not, however close they come."""
    assert volatile_name("before ", value, " after") == name


@pytest.mark.parametrize(
    ("before", "value", "after", "name"),
    [
        ("It is 10:", "15", ":30 now", "date or time"),
        ("It is 2026-11-", "30", "", "date or time"),
        ("room ", "15", ": the meeting", "number"),
        ("mail to ", "ann", "@posteo.de", "e-mail address"),
        ("mail to ", "ann", " please", None),
    ],
)
def test_a_part_of_a_volatile_value_is_one(before: str, value: str, after: str, name: str | None) -> None:
    """Where only its digits differ, what is around them tells."""
    assert volatile_name(before, value, after) == name


@pytest.mark.parametrize(
    ("before", "value", "expected"),
    [
        ("", "Version: 2026-11-01", True),
        ("", "v12", True),
        ("revision ", "7", True),
        ("release: ", "1.2.3", True),
        ("prompt_v", "3", False),
        ("", "five", False),
        ("conversion ", "7", False),
        ("It has ", "12", False),
    ],
)
def test_versions_say_that_they_are_one(before: str, value: str, *, expected: bool) -> None:
    """By a word or by a `v` before the number."""
    assert is_version(before, value, " of this text") is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("10:15", "10:16"), (SlotKind.VOLATILE, "date or time")),
        (("v1", "v1", "v2"), (SlotKind.VERSION, "version marker")),
        (("Ann", "Bo", "Ann"), (SlotKind.VARIANT, "one of few")),
        (("Ann", "Bo", "Chidi", "Ann"), (SlotKind.VOLATILE, "name or id")),
        (("1", "2", "1"), (SlotKind.VARIANT, "one of few")),
        (("1", "2", "3", "1"), (SlotKind.VOLATILE, "number")),
        (("Be kind.", "Be kind.", "Be firm.", "Be firm."), (SlotKind.EDIT, "text")),
        (("Be kind.", "Be firm.", "Be kind.", "Be firm."), (SlotKind.VARIANT, "one of few")),
        (("Beta:", "", "Beta:", ""), (SlotKind.VARIANT, "there or not")),
        (("", "", "Beta:", "Beta:"), (SlotKind.EDIT, "text")),
        (("a " * 100, "b " * 100, "c " * 100, "a " * 100), (SlotKind.CONTENT, "texts of many kinds")),
        (("a " * 100, "b " * 100, "a " * 100), (SlotKind.VARIANT, "one of few")),
        (("a " * 100, "a " * 100, "b " * 100, "b " * 100), (SlotKind.EDIT, "text")),
    ],
)
def test_a_slot_is_told_by_its_values_and_how_they_come(
    values: tuple[str, ...], expected: tuple[SlotKind, str]
) -> None:
    """Each beside its nearest neighbour: one value more, or another order."""
    assert kind_of(*values) == expected


@pytest.mark.parametrize("num_edits", [MAX_EDITS - 1, MAX_EDITS, MAX_EDITS + 1])
def test_a_text_that_is_edited_all_the_time_is_no_edit(num_edits: int) -> None:
    """So many different ones are names, however they come."""
    words = ("red", "green", "blue", "black", "white", "pink", "brown", "grey", "gold")[:num_edits]
    kind, _ = kind_of(*(word for word in words for _ in range(2)))
    assert kind is (SlotKind.EDIT if num_edits <= MAX_EDITS else SlotKind.VOLATILE)


def test_static_text_after_a_slot_is_counted() -> None:
    """That of all stretches that follow."""
    after = f"\n{POLICY}"
    assert static_chars_after(group_of("Ann", "Bo", after=after), 0) == len(after)
    assert static_chars_after(group_of("Ann", "Bo", before=f"{POLICY}\n", after=" is there."), 0) == len(" is there.")


def test_the_usual_value_and_the_first_other_one() -> None:
    """By the number of requests; an example of a finding is one that differs."""
    (slot,) = group_of("Bo", "Ann", "Ann", "Chidi").slots()
    assert usual_value(slot).startswith("Ann")
    assert an_unusual_use(slot).place.line == 1
    assert (slot.num_requests, slot.num_others) == (4, 2)


def test_a_slot_counts_values_that_it_does_not_tell_apart() -> None:
    """Beyond a limit, by which memory is bounded."""
    slot = Slot(0)
    place = LogPlace(Path("log"), 1, 0)
    for number in range(MAX_VALUES + 10):
        slot.add(str(number), Use(1, number, number, place))
    slot.add("0", Use(5, 3, 9, place))
    assert len(slot.value_to_use) == MAX_VALUES
    assert (slot.num_requests, slot.num_further) == (MAX_VALUES + 15, 10)
    assert slot.value_to_use["0"] == Use(6, 0, 9, place)
    assert usual_value(slot) == "0"

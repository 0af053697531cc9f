"""Texts that were meant to be one, and where they differ."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audit import text_groups
from serve_app.audit.log_file import LogPlace
from serve_app.audit.slot_kinds import SlotKind, slot_kind
from serve_app.audit.template import Template
from serve_app.audit.text_groups import MAX_TEXTS, TextGroup, TextGroups
from tests.serve_app.audit.logs import POLICY

PARTS = [f"This is the stretch of text that has the number {number}, and everybody has it. " for number in range(6)]


def filled(rng: Random, num_slots: int) -> str:
    """The parts, with something of its own before some of them."""
    values = [f"{rng.choice(('red', 'green', 'dark blue'))} {rng.randrange(10**6)} " for _ in range(num_slots)]
    return "".join(part for pair in zip([*values, *[""] * (6 - num_slots)], PARTS, strict=True) for part in pair)


@given(st.integers(), st.integers(0, 6), st.integers(1, 12))
def test_a_template_fits_what_it_learned(seed: int, num_slots: int, num_texts: int) -> None:
    """Every text, whatever came after it; and what it has in the slots makes it whole again."""
    rng = Random(seed)
    texts = [filled(rng, num_slots) for _ in range(num_texts)]
    template = Template(texts[0])
    assert all(map(template.learn, texts))
    for text in texts:
        values = template.fit(text)
        assert values is not None
        assert template.fill(values) == text
    assert len(template.spans) <= num_slots


def test_texts_of_another_kind_are_not_learned() -> None:
    """And leave the template as it was."""
    template = Template(POLICY)
    assert not template.learn("Something else altogether, about cooking: take a large pot, and fill it with water.")
    assert template.stretches == (POLICY,)


def see(groups: TextGroups, texts: list[str]) -> list[TextGroup]:
    """One request for each."""
    return [groups.see(text, number, LogPlace(Path("log"), number, 0)) for number, text in enumerate(texts, 1)]


def test_variants_are_one_group_and_others_are_not() -> None:
    """By what they have in common, numbers aside."""
    groups = TextGroups()
    one, variant, other, again = see(groups, [POLICY, f"It is 12:30.\n{POLICY}", POLICY[::-1], POLICY])
    assert one is variant is again is not other
    assert [slot.num_requests for slot in one.slots()] == [3]
    assert (one.slots()[0].num_others, one.slots()[0].start) == (1, 0)


def test_short_texts_are_compared_by_words() -> None:
    """One sentence with a name in it."""
    groups = TextGroups()
    found = see(
        groups, [f"You are the assistant of {name} at the bank and answer briefly." for name in ("Ann", "Bo", "Chidi")]
    )
    assert len({id(group) for group in found}) == 1
    assert slot_kind(found[0], 0, found[0].slots()[0]) == (SlotKind.VOLATILE, "name or id")


def test_a_hint_keeps_together_what_has_nothing_else_in_common() -> None:
    """The same tools, say."""
    groups = TextGroups()
    place = LogPlace(Path("log"), 1, 0)
    one = groups.see("x" * 900, 1, place, 7)
    assert groups.see("y" * 900 + " z", 2, place, 7) is one
    assert groups.see("u" * 900 + " v", 3, place, 8) is not one


def test_counting_goes_on_when_nothing_more_is_learned() -> None:
    """Every request counts in every slot, however many texts there are."""
    groups = TextGroups()
    num_texts = 3 * MAX_TEXTS
    (group, *_) = see(groups, [f"Request {number} of today.\n{POLICY}" for number in range(num_texts)] * 2)
    (slot,) = group.slots()
    assert (slot.num_requests, len(slot.value_to_use)) == (2 * num_texts, num_texts)
    assert all(use.num_requests == 2 for use in slot.value_to_use.values())


def test_groups_of_one_request_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """For others; what comes again stays, and what was forgotten begins anew."""
    monkeypatch.setattr(text_groups, "MAX_GROUPS", 5)
    groups = TextGroups()
    texts = [f"{chr(97 + number) * 30} {'some words that come twice. ' if number else ''}" * 30 for number in range(12)]
    see(groups, [texts[0], *texts, texts[0], *texts, texts[0]])
    assert len(list(groups)) == 5
    assert max(group.num_requests for group in groups) >= 4


def kind_of(*values: str) -> SlotKind:
    """Of a place with these values, in this order, before a policy."""
    groups = TextGroups()
    (group, *_) = see(groups, [f"{value}\n{POLICY}" for value in values])
    return slot_kind(group, 0, group.slots()[0])[0]


def test_what_differs_is_told_by_how_it_looks_and_comes() -> None:
    """Dates, markers, edits, names, contents, and variants of few."""
    assert kind_of("Now 2026-11-01", "Now 2026-11-02") is SlotKind.VOLATILE
    assert kind_of("At 10:15", "At 10:20", "At 10:15") is SlotKind.VOLATILE
    assert kind_of("Version: 1.1", "Version: 1.1", "Version: 1.2") is SlotKind.VERSION
    assert kind_of("Be kind.", "Be kind.", "Be very kind.", "Be very kind.") is SlotKind.EDIT
    assert kind_of("For Ann", "For Bo", "For Chidi", "For Ann") is SlotKind.VOLATILE
    assert kind_of("In French", "In German", "In French", "In German") is SlotKind.VARIANT
    assert kind_of("a " * 200, "b " * 200, "c " * 200, "a " * 200) is SlotKind.CONTENT

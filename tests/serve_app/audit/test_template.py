"""Templates and groups of texts: laws that hold for any texts."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audit.log_file import LogPlace
from serve_app.audit.template import MAX_SLOTS, MIN_COMMON_CHARS, Template, is_enough
from serve_app.audit.text_groups import TextGroups
from tests.serve_app.audit.logs import POLICY

words = st.lists(
    st.sampled_from(["one", "two", "three", "\n", " ", "a longer stretch of words that stays", "x"]), max_size=30
)
texts = words.map(" ".join)


def is_whole(template: Template) -> bool:
    """Stretches and spans tell the same story of the first text."""
    ends = [0, *(end for _, end in template.spans)]
    starts = [*(start for start, _ in template.spans), len(template.text)]
    pieces = [template.text[end:start] for end, start in zip(ends, starts, strict=True)]
    in_order = all(end <= start for end, start in zip(ends, starts, strict=True))
    return in_order and pieces == list(template.stretches)


@given(st.lists(texts, min_size=1, max_size=6), st.booleans())
def test_a_template_stays_whole(all_texts: list[str], is_sure: bool) -> None:
    """Whatever it is shown, it fits all that it learned; what it refused has changed nothing."""
    template = Template(all_texts[0])
    learned = [all_texts[0]]
    for text in all_texts[1:]:
        before = list(template.spans)
        if template.learn(text, is_sure=is_sure):
            learned.append(text)
        else:
            assert list(template.spans) == before
        assert is_whole(template)
    for text in learned:
        values = template.fit(text)
        assert values is not None
        assert len(values) == len(template.spans)
        assert template.fill(values) == text


@given(texts, st.lists(texts, max_size=3))
def test_what_is_filled_in_fits_again(first: str, others: list[str]) -> None:
    """With other values of one's own, as a suggested layout has them."""
    template = Template(first)
    for other in others:
        template.learn(other, is_sure=True)
    filled = template.fill(["value"] * len(template.spans))
    values = template.fit(filled)
    assert values is not None
    assert template.fill(values) == filled


@pytest.mark.parametrize(
    ("num_common", "one", "other", "expected"),
    [
        (MIN_COMMON_CHARS, "x" * 5000, "y" * 5000, True),
        (MIN_COMMON_CHARS - 1, "x" * 5000, "y" * 5000, False),
        (34, "x" * 100, "y" * 5000, True),
        (33, "x" * 100, "y" * 5000, False),
        (0, "", "y", True),
    ],
)
def test_a_third_or_two_hundred_characters_are_enough(num_common: int, one: str, other: str, *, expected: bool) -> None:
    """Of the shorter text."""
    assert is_enough(num_common, one, other) is expected


def test_texts_that_differ_everywhere_are_no_variants() -> None:
    """There are not more slots than can be told apart."""
    pieces = [
        f"This is sentence number {chr(97 + n % 26)}{n} of the policy, which all have." for n in range(2 * MAX_SLOTS)
    ]
    other = [f"{n * 7919} {piece}" for n, piece in enumerate(pieces)]
    template = Template("\n".join(pieces))
    assert not template.learn("\n".join(other))
    assert template.stretches == ("\n".join(pieces),)
    assert template.learn("\n".join([*other[:MAX_SLOTS], *pieces[MAX_SLOTS:]]))
    assert len(template.spans) == MAX_SLOTS


def test_very_long_texts_are_compared_line_by_line() -> None:
    """Word by word would take too long."""
    lines = [f"line {n} has some words of its own, {Random(n).random()}" for n in range(2000)]
    changed = [*lines[:1000], "another line", *lines[1001:]]
    template = Template("\n".join(lines))
    assert template.learn("\n".join(changed))
    assert template.fit("\n".join(changed)) == ("another line\n",)


@given(st.permutations(range(6)))
def test_groups_do_not_depend_on_the_order_of_requests(order: list[int]) -> None:
    """Three variants of each of two texts are two groups, whichever comes first."""
    variants = [f"It is {n}:00.\n{text}" for text in (POLICY, POLICY[::-1]) for n in range(3)]
    groups = TextGroups()
    numbers = {n: groups.see(variants[n], at, LogPlace(Path("log"), at, 0)).number for at, n in enumerate(order, 1)}
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3] == numbers[4] == numbers[5]
    assert {group.num_requests for group in groups} == {3}
    for group in groups:
        (slot,) = group.slots()
        assert (slot.num_requests, len(slot.value_to_use)) == (3, 3)

"""What texts have in common, and in which places they differ."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from serve_app.audit.common_prefix import common_prefix

WORD = re.compile(r"\s+|\S+")
MIN_STRETCH_CHARS = 24
"""A shorter stretch between two places that differ says nothing: both become one."""
MAX_SLOTS = 32
MAX_WORDS = 6000
"""Of what is compared word by word; more is compared line by line."""
MIN_COMMON_CHARS = 200
MIN_COMMON_SHARE = 1 / 3
"""Of the shorter text, or as many characters: with less in common, two texts are not variants of one."""

Values = tuple[str, ...]


class Template:
    """Stretches of text that all have, with slots between them: one fewer than stretches.

    The texts from which it is learned are compared with the first one of them.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._spans: list[tuple[int, int]] = []  # of the slots, in the first text
        self.stretches: Sequence[str] = (text,)

    @property
    def text(self) -> str:
        """The first one."""
        return self._text

    @property
    def spans(self) -> Sequence[tuple[int, int]]:
        """The slots' places in the first text: start and end, in characters."""
        return self._spans

    def fit(self, text: str) -> Values | None:
        """What the text has in the slots; None if it does not have the stretches."""
        first, last = self.stretches[0], self.stretches[-1]
        if not self._spans:
            return () if text == first else None
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return None
        values = []
        end = len(text) - len(last)
        position = len(first)
        for stretch in self.stretches[1:-1]:
            start = text.find(stretch, position, end)
            if start < 0:
                return None
            values.append(text[position:start])
            position = start + len(stretch)
        values.append(text[position:end])
        return tuple(values)

    def learn(self, text: str, *, is_sure: bool = False) -> bool:
        """Make it fit another text too; returns whether that is possible.

        Texts with too little in common are not learned from, unless it is sure that they are variants of one.
        """
        if self.fit(text) is not None:
            return True
        spans = _merged([*self._spans, *_differences(self._text, text)])
        num_common = len(self._text) - sum(end - start for start, end in spans)
        if len(spans) > MAX_SLOTS or not (is_sure or is_enough(num_common, self._text, text)):
            return False
        before = self._spans, self.stretches
        self._spans = spans
        starts, ends = [0, *(end for _, end in spans)], [*(start for start, _ in spans), len(self._text)]
        self.stretches = tuple(self._text[start:end] for start, end in zip(starts, ends, strict=True))
        if self.fit(text) is None:  # a stretch that also comes earlier
            self._spans, self.stretches = before
            return False
        return True

    def fill(self, values: Sequence[str]) -> str:
        """The text with these values."""
        return "".join(part for pair in zip(self.stretches, (*values, ""), strict=True) for part in pair)


def is_enough(num_common: int, one: str, other: str) -> bool:
    """Whether two texts with this number of characters in common are variants of one."""
    return num_common >= min(MIN_COMMON_CHARS, MIN_COMMON_SHARE * min(len(one), len(other)))


def _differences(reference: str, text: str) -> list[tuple[int, int]]:
    """Spans of the reference for which the text has something else, in whole words, or in whole lines."""
    ours, theirs = WORD.findall(reference), WORD.findall(text)
    if max(len(ours), len(theirs)) > MAX_WORDS:
        ours, theirs = reference.splitlines(keepends=True), text.splitlines(keepends=True)
    start = common_prefix(ours, theirs)
    tail = common_prefix(ours[start:][::-1], theirs[start:][::-1])
    middle, their_middle = ours[start : len(ours) - tail], theirs[start : len(theirs) - tail]
    offsets = [sum(map(len, ours[:start]))]
    for word in middle:
        offsets.append(offsets[-1] + len(word))
    matcher = SequenceMatcher(None, middle, their_middle, autojunk=False)
    return [(offsets[a], offsets[b]) for kind, a, b, _, _ in matcher.get_opcodes() if kind != "equal"]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order. Those that touch or nearly do become one, as a short stretch is no landmark."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start - merged[-1][1] < MIN_STRETCH_CHARS:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged

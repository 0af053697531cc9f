"""Which texts were meant to be one, and how they differ: variants of a system prompt, of a list of tools, of a form."""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import xxhash

from serve_app.audit.log_file import NOWHERE, LogPlace
from serve_app.audit.template import Template, is_enough
from serve_app.audit.text_form import OrderedText, Signature, in_order

MAX_GROUPS = 20_000
"""Among the groups that were seen longest ago, one with a single request makes room: it rarely comes again."""
MAX_TEXTS = 32
"""Number of a group's texts from which its template is learned."""
MAX_VALUES = 2_000
"""Number of a slot's values that are told apart."""
MAX_KNOWN = 4_096
"""Number of texts whose group is remembered, as most texts come again."""
PIECE_END = re.compile(r"\n+|(?<=[.!?:;])\s+")
MIN_PIECE_CHARS = 24
MAX_PIECES = 256
SHORT_CHARS = 800
"""A shorter text is compared by every few words, as it may have no two sentences alike."""
WINDOW_WORDS = 4
DIGITS = re.compile(r"\d+")


class Use(NamedTuple):
    """The requests that have a value."""

    num_requests: int
    first: int
    """Number of the request in which it came first, and of that in which it came last."""
    last: int
    place: LogPlace


@dataclass(slots=True)
class Slot:
    """A place in which the texts of a group differ."""

    start: int
    """The slot's offset in the group's text, in characters."""
    value_to_use: dict[str, Use] = field(default_factory=dict)
    num_further: int = 0
    """Number of requests with values beyond those."""

    @property
    def num_requests(self) -> int:
        """Number of requests that have any value here."""
        return sum(use.num_requests for use in self.value_to_use.values()) + self.num_further

    @property
    def num_others(self) -> int:
        """Requests that do not have the most usual value."""
        usual = max((use.num_requests for use in self.value_to_use.values()), default=0)
        return self.num_requests - usual

    def add(self, value: str, use: Use) -> None:
        """Count further requests with a value."""
        known = self.value_to_use.get(value)
        if known is not None:
            self.value_to_use[value] = Use(
                known.num_requests + use.num_requests,
                min(known.first, use.first),
                max(known.last, use.last),
                min(known, use, key=lambda each: each.first).place,
            )
        elif len(self.value_to_use) < MAX_VALUES:
            self.value_to_use[value] = use
        else:
            self.num_further += use.num_requests


@dataclass(slots=True)
class Style:
    """How trivia or JSON were written, in how many requests."""

    signature_to_use: dict[Signature, Use] = field(default_factory=dict)

    def add(self, signature: Signature, use: Use) -> None:
        """Count one more request."""
        known = self.signature_to_use.get(signature)
        if known is not None:
            self.signature_to_use[signature] = known._replace(num_requests=known.num_requests + 1, last=use.last)
        elif len(self.signature_to_use) < MAX_VALUES:
            self.signature_to_use[signature] = use

    @property
    def usual(self) -> Signature:
        """The one of most requests."""
        return max(self.signature_to_use.items(), key=lambda item: item[1].num_requests)[0]

    @property
    def num_others(self) -> int:
        """Requests that do not have the most usual one."""
        counts = [use.num_requests for use in self.signature_to_use.values()]
        return sum(counts) - max(counts, default=0)


class TextGroup:
    """Variants of one text."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.template = Template(text)
        self.num_requests = 0
        self.trivia, self.json_style = Style(), Style()
        self.place = NOWHERE
        """The place of the first request."""
        self._text_to_use: dict[str, Use] = {text: Use(0, 0, 0, NOWHERE)}
        self._later: list[Slot] | None = None  # of requests with texts from which nothing is learned any more

    @property
    def text(self) -> str:
        """The first text of the group, in order."""
        return self.template.text

    def add(self, form: OrderedText, number: int, place: LogPlace, *, is_sure: bool = False) -> None:
        """One more request; whether it belongs here may be known from elsewhere."""
        use = Use(1, number, number, place)
        self.num_requests += 1
        self.place = place if self.num_requests == 1 else self.place
        self.trivia.add(form.trivia, use)
        self.json_style.add(form.json_style, use)
        known = self._text_to_use.get(form.text)
        if known is not None:
            first, place = (known.first, known.place) if known.num_requests else (number, place)
            self._text_to_use[form.text] = Use(known.num_requests + 1, first, number, place)
        elif (
            len(self._text_to_use) < MAX_TEXTS
            and self._later is None
            and self.template.learn(form.text, is_sure=is_sure)
        ):
            self._text_to_use[form.text] = use
        else:
            self._add_later(form.text, use)

    def slots(self) -> list[Slot]:
        """The slots, in their order."""
        slots = [Slot(start) for start, _ in self.template.spans]
        for text, use in self._text_to_use.items():
            values = self.template.fit(text)
            for slot, value in zip(slots, values or (), strict=False):
                if use.num_requests:
                    slot.add(value, use)
        for slot, later in zip(slots, self._later or (), strict=False):
            for value, use in later.value_to_use.items():
                slot.add(value, use)
            slot.num_further += later.num_further
        return slots

    def _add_later(self, text: str, use: Use) -> None:
        values = self.template.fit(text)
        if values is not None:
            if self._later is None:  # from now on the template stays
                self._later = [Slot(start) for start, _ in self.template.spans]
            for slot, value in zip(self._later, values, strict=True):
                slot.add(value, use)


class Located(NamedTuple):
    """A text, and where it belongs."""

    group: TextGroup
    form: OrderedText


class TextGroups:
    """All of one kind of text, such as system prompts.

    Texts belong together that have enough in common, sentence by sentence or line by line, numbers aside.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[int, TextGroup] = OrderedDict()
        self._piece_to_group: dict[int, int] = {}
        self._group_to_pieces: dict[int, list[int]] = {}
        self._hint_to_group: dict[int, int] = {}
        self._text_to_located: OrderedDict[tuple[str, int | None], Located] = OrderedDict()
        self._num_made = 0

    def __iter__(self) -> Iterator[TextGroup]:
        return iter(self._groups.values())

    def see(self, text: str, number: int, place: LogPlace, hint: int | None = None) -> TextGroup:
        """A request has this text, the one of that number.

        A text that is like no other belongs to the first one with the same hint, if it has one.
        """
        located = self.locate(text, hint)
        is_sure = located is not None and hint is not None and self._hint_to_group.get(hint) == located.group.number
        if located is None:
            form = in_order(text)
            located = self._remember(text, hint, Located(self._make(form.text), form))
        if hint is not None:
            self._hint_to_group.setdefault(hint, located.group.number)
        located.group.add(located.form, number, place, is_sure=is_sure)
        return located.group

    def locate(self, text: str, hint: int | None = None) -> Located | None:
        """Where a text belongs; None if nothing like it was seen."""
        known = self._text_to_located.get((text, hint))
        if known is not None and known.group.number in self._groups:
            self._text_to_located.move_to_end((text, hint))
            self._groups.move_to_end(known.group.number)
            return known
        form = in_order(text)
        group = self._find(form.text) or self._groups.get(self._hint_to_group.get(hint, 0) if hint is not None else 0)
        return None if group is None else self._remember(text, hint, Located(group, form))

    def _remember(self, text: str, hint: int | None, located: Located) -> Located:
        self._text_to_located[text, hint] = located
        self._text_to_located.move_to_end((text, hint))
        if len(self._text_to_located) > MAX_KNOWN:
            self._text_to_located.popitem(last=False)
        return located

    def _find(self, text: str) -> TextGroup | None:
        votes: Counter[int] = Counter()
        for piece, size in _pieces(text):
            group = self._piece_to_group.get(piece)
            if group is not None:
                votes[group] += size
        if not votes:
            return None
        number, num_shared = votes.most_common(1)[0]
        group_text = self._groups[number].text
        if not is_enough(num_shared, text, group_text):
            return None
        self._groups.move_to_end(number)
        return self._groups[number]

    def _make(self, text: str) -> TextGroup:
        self._num_made += 1
        group = self._groups[self._num_made] = TextGroup(self._num_made, text)
        pieces = self._group_to_pieces[group.number] = []
        for piece, _ in _pieces(text):
            if self._piece_to_group.setdefault(piece, group.number) == group.number:
                pieces.append(piece)
        if len(self._groups) > MAX_GROUPS:
            self._forget_oldest()
        return group

    def _forget_oldest(self) -> None:
        """Forget a group of one request, if there is one among the oldest."""
        oldest = [number for number, _ in zip(self._groups, range(64), strict=False)]
        number = next((each for each in oldest if self._groups[each].num_requests <= 1), oldest[0])
        del self._groups[number]
        for piece in self._group_to_pieces.pop(number):
            self._piece_to_group.pop(piece, None)  # a text may have one several times


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Sentences and lines by their hashes, or every few words of a short text, with the characters each stands for."""
    if len(text) < SHORT_CHARS:
        words = text.split()
        for start in range(max(1, len(words) - WINDOW_WORDS + 1)):
            yield _hash(" ".join(words[start : start + WINDOW_WORDS])), len(words[start]) + 1 if words else 1
    else:
        for piece in [each for each in PIECE_END.split(text) if len(each) >= MIN_PIECE_CHARS][:MAX_PIECES] or [text]:
            yield _hash(piece), len(piece)


def _hash(piece: str) -> int:
    """Whatever numbers there are in it."""
    return xxhash.xxh3_64_intdigest(DIGITS.sub("0", piece).encode(errors="surrogatepass"))

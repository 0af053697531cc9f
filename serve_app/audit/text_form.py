"""One form for texts that mean the same: line ends, invisible characters, and how JSON in them is written."""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
"""Zero-width space, word joiner, byte order mark. Joiners that Persian or emoji need are kept."""
LINE_END = re.compile("\r\n?")
TRAILING = re.compile(r"[ \t]+(?=\n|$)")
JSON_START = re.compile(r'[{\[](?=\s*["{\[])')
MIN_JSON_CHARS = 16
"""Shorter ones, such as `["a"]` in a sentence, are left as they are."""

Signature = tuple[object, ...]
"""Of what was put in order: equal for texts that were off in the same way, empty for those that were in order."""


class OrderedText(NamedTuple):
    """A text in order, and what was not."""

    text: str
    trivia: Signature
    json_style: Signature


def in_order(text: str) -> OrderedText:
    """Without trivia, and with its JSON written in one way."""
    plain = without_trivia(text)
    trivia = () if plain == text else _trivia_of(text)
    ordered, styles = _with_json_in_order(plain)
    return OrderedText(ordered, trivia, styles)


def without_trivia(text: str) -> str:
    """NFC, line feeds, nothing invisible, no spaces where a line or the text ends, no empty lines around it."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", INVISIBLE.sub("", text))
    if "\r" in text:
        text = LINE_END.sub("\n", text)
    return TRAILING.sub("", text).strip("\n ")


def with_json_in_order(text: str) -> str:
    """Every JSON object or list of objects in it on one line, with its keys sorted."""
    return _with_json_in_order(text)[0]


def _trivia_of(text: str) -> Signature:
    ends = tuple(sorted({match.group() for match in LINE_END.finditer(text)}))
    lines = LINE_END.sub("\n", text).split("\n")
    # Not by their places, which move where something else differs before them.
    trailing = tuple(line[len(line.rstrip(" \t")) :] for line in lines if line.endswith((" ", "\t")))
    form = unicodedata.is_normalized("NFC", text)
    around = (len(text) - len(text.lstrip("\n ")), len(text) - len(text.rstrip("\n ")))
    return (ends, trailing, form, len(INVISIBLE.findall(text)), around)


def _with_json_in_order(text: str) -> tuple[str, Signature]:
    parts: list[str] = []
    styles: list[object] = []
    end = 0
    for start, stop, value in _islands(text):
        written = text[start:stop]
        ordered = json.dumps(value, sort_keys=True, ensure_ascii=False)
        styles.append(_style_of(written, value) if ordered != written else None)
        parts += (text[end:start], ordered)
        end = stop
    if not any(styles):
        return text, ()
    return "".join((*parts, text[end:])), tuple(styles)


def _islands(text: str) -> Iterator[tuple[int, int, Any]]:
    """Where JSON is in a text, and what it says."""
    position = 0
    while (match := JSON_START.search(text, position)) is not None:
        inexact: list[str] = []
        decoder = json.JSONDecoder(
            object_pairs_hook=partial(_unique, inexact), parse_float=partial(_exact_float, inexact)
        )
        try:
            value, stop = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            position = match.end()
            continue
        if stop - match.start() >= MIN_JSON_CHARS and not inexact and _has_object(value):
            yield match.start(), stop, value
        position = stop


def _unique(inexact: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        inexact.append("a key that is there twice")
    return value


def _exact_float(inexact: list[str], written: str) -> float:
    value = float(written)
    if repr(value) != written:
        inexact.append(written)
    return value


def _has_object(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_object, value)))


def _style_of(written: str, value: Any) -> Signature:  # noqa: ANN401  any JSON
    """How it is written, whatever it says."""
    unordered = json.dumps(value, ensure_ascii=False)
    if unordered == written:
        spacing = "usual"
    elif json.dumps(value, ensure_ascii=False, separators=(",", ":")) == written:
        spacing = "compact"
    else:
        spacing = next(
            (
                f"indent {width}"
                for width in (1, 2, 3, 4, 8)
                if json.dumps(value, ensure_ascii=False, indent=width) == written
            ),
            "another",
        )
    return (spacing, tuple(_keys(value)))


def _keys(value: Any) -> Iterator[str]:  # noqa: ANN401  any JSON
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)

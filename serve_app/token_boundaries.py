"""Where a text can be cut so that the token ids of both parts are those of the whole.

A tokenizer takes its added tokens out of a text first, the leftmost and longest at each place, and handles what is
between them by itself. So a text can be cut before such a token, if nothing else can take it, or a part of it, instead.
"""

from collections.abc import Mapping
from itertools import product
from typing import Protocol


class AddedToken(Protocol):
    """Of `tokenizers.AddedToken`, what is read."""

    content: str
    lstrip: bool
    """Whether it takes the white space before it, too: then it cannot be cut off from that."""
    single_word: bool
    """Whether it counts only between white space."""
    normalized: bool
    """Whether it is looked for after the text's normalisation only, in which other rules may apply."""


def find_boundaries(id_to_token: Mapping[int, AddedToken], template: str) -> dict[str, int]:
    """The added tokens before which texts of this chat template can be cut, with their ids; perhaps none.

    Those that the template itself does not write are left out: they are seldom in a text, and each costs a search.
    """
    contents = [token.content for token in id_to_token.values()]
    return {
        token.content: token_id
        for token_id, token in id_to_token.items()
        if token.content in template
        and not (token.lstrip or token.single_word or token.normalized)
        and not any(_can_take(other, token.content) for other in contents if other != token.content)
        and not _overlaps(token.content, token.content)
    }


def _can_take(other: str, token: str) -> bool:
    """Whether another token can be found where this one, or its start, is."""
    return token in other or _overlaps(other, token)


def _overlaps(first: str, second: str) -> bool:
    """Whether an end of the first is a start of the second."""
    return any(first.endswith(second[:length]) for length in range(1, min(len(first), len(second))))


def samples(boundaries: Mapping[str, int]) -> list[str]:
    """Texts in which a wrong cut would show: every two boundaries around what tokenizers treat in special ways."""
    between = (
        "",
        " ",
        "\n",
        "\n\n",
        "word",
        " word",
        "word ",
        "Hello, world! \t 123",
        "  two  ",
        "ä ö",
        "日本語",
        "\u200b",
    )
    filler = "The quick brown fox jumps over 13 lazy dogs. " * 8
    return [
        "".join(f"{before}{filler}{text}{after}{text}{filler}{text}" for text in between)
        for before, after in product(boundaries, repeat=2)
    ]

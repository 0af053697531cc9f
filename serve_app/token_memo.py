"""Token ids of a text, for the price of what is new in it.

Tokenizers split a text at its special tokens before they do anything else, so the ids of a text are those of its pieces
from one such boundary to the next, one after the other. A conversation that returns has all pieces but the last few in
here already, and a new one those of the system prompt and the tools that it shares with others.
"""

import asyncio
import logging
import re
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple

import xxhash

logger = logging.getLogger("ray.serve")

CHECK_EVERY = 1000
"""So many texts, one is tokenised as a whole too, and compared."""
INLINE_BYTES = 1024
"""So much new text is tokenised on the event loop: that takes no longer than handing it to a thread."""
LONG_BYTES = 32 * 1024
"""From so much new text on, a text waits for other long ones only, so that short ones do not wait for it. One thread
for each kind: more would tokenise more at a time, but each needs a tenth more time to fill caches of its own."""
MIN_PIECE_BYTES = 256
"""Shorter stretches between boundaries belong to one piece: each costs a look-up, and some bytes beside its ids."""
PIECE_OVERHEAD_BYTES = 240
"""Of a piece, beside its ids: key, array and dictionary entry, as measured by tracemalloc."""
HEAP_FACTOR = 1.2
"""Resident memory of all that, as `loadtests.memo_memory` measures it: allocators have a rest of their own."""


Encode = Callable[[str], Sequence[int]]


class Begun(NamedTuple):
    """A text, and what is known of it."""

    text: str
    content: bytes
    boundaries: Sequence[int]
    """Where special tokens begin, in bytes."""
    cuts: Sequence[int]
    """Those of them where pieces end."""
    keys: Sequence[bytes]
    """For each cut."""
    known: Sequence["array[int]"]
    """The ids of the first pieces."""
    is_to_check: bool
    """Whether it is tokenised as a whole, too."""

    @property
    def known_bytes(self) -> int:
        """How much of the text they are."""
        return self.cuts[len(self.known) - 1] if self.known else 0

    @property
    def new_bytes(self) -> int:
        """How much is to be tokenised."""
        return len(self.content) - self.known_bytes


class TokenMemo:
    """An LRU of pieces, each known by the hash of all text up to its end. Several threads may use it.

    Args:
        encode: tokenises a text without adding special tokens, in several threads at a time.
        reference: the same, to be compared with.
        boundary_to_id: special tokens, one at least, before which a text can be cut; see `serve_app.token_boundaries`.
        max_bytes: of all pieces together.

    """

    def __init__(self, encode: Encode, *, reference: Encode, boundary_to_id: Mapping[str, int], max_bytes: int) -> None:
        self._short_texts = ThreadPoolExecutor(1, thread_name_prefix="tokenize-short")
        self._long_texts = ThreadPoolExecutor(1, thread_name_prefix="tokenize-long")
        self._encode = encode
        self._reference = reference
        self._num_texts = 0
        self._boundary_ids = frozenset(boundary_to_id.values())
        longest_first = sorted(map(str.encode, boundary_to_id), key=len, reverse=True)
        self._boundary = re.compile(b"|".join(map(re.escape, longest_first)))
        self._max_bytes = max_bytes
        self._key_to_ids: OrderedDict[bytes, array[int]] = OrderedDict()
        self._lock = Lock()
        self.num_bytes = 0
        self.num_known_tokens = 0
        """Ids that were taken from here, of all texts."""
        self.num_encoded_tokens = 0
        """Ids that had to be made."""
        self.num_unaligned = 0
        """Texts whose ids did not show the boundaries that were found in the text; nothing of them is kept."""
        self.is_exact = True
        """False once a check failed. From then on nothing is taken from here any more."""

    def encode(self, text: str) -> "array[int]":
        """The ids of all of the text."""
        return self._complete(self._begin(text))

    async def read(self, text: str) -> "array[int]":
        """The same, and the event loop is kept free of all but little work."""
        begun = self._begin(text)
        if begun.new_bytes <= INLINE_BYTES and not begun.is_to_check:
            return self._complete(begun)
        thread = self._short_texts if begun.new_bytes < LONG_BYTES else self._long_texts
        return await asyncio.get_running_loop().run_in_executor(thread, self._complete, begun)

    def _begin(self, text: str) -> Begun:
        """Look up what is known; cheap."""
        self._num_texts += 1
        content = text.encode()
        boundaries = [match.start() for match in self._boundary.finditer(content)] if self.is_exact else []
        cuts = list(_cuts(boundaries))
        keys = list(_keys(content, cuts))
        is_to_check = self._num_texts % CHECK_EVERY == 0
        return Begun(text, content, boundaries, cuts, keys, self._known(keys), is_to_check)

    def _complete(self, begun: Begun) -> "array[int]":
        """Tokenise what is new, and remember it."""
        start, num_known = begun.known_bytes, len(begun.known)
        rest = self._encode(begun.content[start:].decode())
        pieces = self._split(rest, [each for each in begun.boundaries if each >= start], begun.cuts[num_known:])
        if pieces is None:
            self.num_unaligned += 1
        else:
            self._keep(begun.keys, num_known, pieces)
        ids = array("I")
        for piece in begun.known:
            ids += piece
        self.num_known_tokens += len(ids)
        self.num_encoded_tokens += len(rest)
        ids.extend(rest)
        return self._check(begun.text, ids) if begun.is_to_check else ids

    def _check(self, text: str, composed: "array[int]") -> "array[int]":
        """The ids as they are, whatever was composed."""
        ids = array("I", self._reference(text))
        if ids != composed:
            self.is_exact = False
            self.clear()
            logger.error("The memo gave other token ids than the tokenizer: it is not used any more")
        return ids

    def is_right(self, text: str) -> bool:
        """Whether the ids are those of the reference."""
        return self.encode(text) == array("I", self._reference(text))

    def snapshot(self) -> dict[str, int | bool]:
        """For operators. Counts only."""
        return {
            "is_exact": self.is_exact,
            "bytes": self.num_bytes,
            "pieces": len(self._key_to_ids),
            "known_tokens": self.num_known_tokens,
            "encoded_tokens": self.num_encoded_tokens,
            "unaligned_texts": self.num_unaligned,
        }

    def clear(self) -> None:
        """Forget all pieces."""
        with self._lock:
            self._key_to_ids.clear()
            self.num_bytes = 0

    def _known(self, keys: Sequence[bytes]) -> list["array[int]"]:
        """The first pieces, as far as they are here. Each is used now, and before the one that it follows.

        So a piece is never older than those that build on it, and the oldest is never one on which others build.
        """
        with self._lock:
            known = []
            for key in keys:
                ids = self._key_to_ids.get(key)
                if ids is None:
                    break
                known.append(ids)
            for key in reversed(keys[: len(known)]):
                self._key_to_ids.move_to_end(key)
        return known

    def _split(self, ids: Sequence[int], boundaries: Sequence[int], cuts: Sequence[int]) -> list["array[int]"] | None:
        """The ids from one cut to the next; those after the last cut may go on differently and are no piece.

        None where the ids do not have a special token for each boundary: then these are none.
        """
        if not cuts:
            return []
        starts = [index for index, token_id in enumerate(ids) if token_id in self._boundary_ids]
        if len(starts) != len(boundaries):
            return None
        position_to_index = dict(zip(boundaries, starts, strict=True))
        ends = [position_to_index[cut] for cut in cuts]
        return [array("I", ids[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    def _keep(self, keys: Sequence[bytes], num_known: int, pieces: Sequence["array[int]"]) -> None:
        with self._lock:
            for key, ids in zip(keys[num_known:], pieces, strict=True):
                if key not in self._key_to_ids:
                    self._key_to_ids[key] = ids
                    self.num_bytes += _size(ids)
            for key in reversed(keys):
                if key in self._key_to_ids:
                    self._key_to_ids.move_to_end(key)
            while self.num_bytes > self._max_bytes:
                _, ids = self._key_to_ids.popitem(last=False)
                self.num_bytes -= _size(ids)

    def check_integrity(self) -> None:
        """Assert that the size is right and within its limit."""
        assert self.num_bytes == sum(map(_size, self._key_to_ids.values()))
        assert self.num_bytes <= self._max_bytes


def _cuts(boundaries: Sequence[int]) -> Iterator[int]:
    """Where the pieces end: what comes before one depends on nothing after it."""
    last = 0
    for position in boundaries:
        if position - last >= MIN_PIECE_BYTES:
            yield position
            last = position


def _keys(content: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """For each cut, the hash of all that is before it."""
    hasher, view = xxhash.xxh3_128(), memoryview(content)
    for start, end in zip([0, *cuts], cuts, strict=False):
        hasher.update(view[start:end])
        yield hasher.digest()


def _size(ids: "array[int]") -> int:
    return round(HEAP_FACTOR * (ids.itemsize * len(ids) + PIECE_OVERHEAD_BYTES))

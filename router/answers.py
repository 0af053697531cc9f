"""How long answers become, learned from those that ended.

Who shares a prompt's first block shares its model, tenant and system prompt, and mostly answers at about the same
length; a conversation still more so. So each of these has a mean of its own, which counts the more, the more answers it
has seen; before that, the mean of all does.
"""

from collections import OrderedDict
from typing import NamedTuple

from router.types import RouteRequest

FORGET = 0.9
"""What earlier answers count with each new one: the mean is that of the last ten or so."""
FIRST_GUESS_TOKENS = 256.0
"""Before any answer has ended, of a request that names no limit."""
MAX_CLASSES = 4096
"""Classes that are remembered; the one that was used longest ago is forgotten first."""


class _Mean(NamedTuple):
    """Of the last answers of a class, each counted as far as it is not forgotten."""

    tokens: float = 0.0
    answers: float = 0.0

    def with_one_more(self, tokens: int) -> "_Mean":
        return _Mean(FORGET * self.tokens + tokens, FORGET * self.answers + 1)


class Answers:
    """Lengths of answers, in tokens."""

    def __init__(self) -> None:
        self._all = _Mean()
        self._key_to_mean: OrderedDict[int, _Mean] = OrderedDict()

    def expected_tokens(self, request: RouteRequest) -> float:
        """Of its answer; never more than the client allows."""
        limit_tokens = request.max_answer_tokens
        if not self._all.answers:
            return FIRST_GUESS_TOKENS if limit_tokens is None else float(limit_tokens)
        expected_tokens = self._all.tokens / self._all.answers
        for key in _classes(request):
            mean = self._key_to_mean.get(key)
            if mean is not None:  # the wider class counts as one more answer
                expected_tokens = (mean.tokens + expected_tokens) / (mean.answers + 1)
        return expected_tokens if limit_tokens is None else min(expected_tokens, limit_tokens)

    def learn(self, request: RouteRequest, answer_tokens: int) -> None:
        """An answer has ended, in whatever way."""
        self._all = self._all.with_one_more(answer_tokens)
        for key in _classes(request):
            self._key_to_mean[key] = self._key_to_mean.get(key, _Mean()).with_one_more(answer_tokens)
            self._key_to_mean.move_to_end(key)
        while len(self._key_to_mean) > MAX_CLASSES:
            self._key_to_mean.popitem(last=False)


def _classes(request: RouteRequest) -> list[int]:
    """Keys of the classes that a request belongs to, the widest first; all are 64-bit hashes."""
    first_block = [int(each) for each in request.block_hashes[:1]]
    return first_block if request.session_key is None else [*first_block, int(request.session_key)]

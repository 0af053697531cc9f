"""The expected length of answers, learned from those that ended.

Requests with the same first block share their model, tenant and system prompt, and mostly get answers of about the same
length; the requests of a conversation still more so. So each of these classes has a mean of its own, which counts the
more, the more answers it has seen. Before that, the mean of all answers counts.
"""

from collections import OrderedDict
from collections.abc import Iterable

from router.state import AnswerClass, AnswerMean
from router.types import RouteRequest

FORGET = 0.9
"""Weight of all earlier answers with each new one: the mean is that of the last ten or so."""
FIRST_GUESS_TOKENS = 256.0
"""Expected length before any answer has ended, for a request without a limit."""
MAX_CLASSES = 4096
"""Classes that are remembered, at most; the longest unused one is forgotten first."""


class Answers:
    """Mean lengths of answers in tokens, by class."""

    def __init__(self) -> None:
        self.of_all = AnswerMean()
        self._key_to_mean: OrderedDict[int, AnswerMean] = OrderedDict()

    def expected_tokens(self, request: RouteRequest) -> float:
        """Expected length of each answer to a request, in tokens; never more than the client allows."""
        limit_tokens = request.max_answer_tokens
        if not self.of_all.answers:
            return FIRST_GUESS_TOKENS if limit_tokens is None else float(limit_tokens)
        expected_tokens = self.of_all.tokens / self.of_all.answers
        for key in _classes(request):
            mean = self._key_to_mean.get(key)
            if mean is not None:  # the expectation of the wider class counts as one more answer
                expected_tokens = (mean.tokens + expected_tokens) / (mean.answers + 1)
        return expected_tokens if limit_tokens is None else min(expected_tokens, limit_tokens)

    def learn(self, request: RouteRequest, answer_tokens: float) -> None:
        """Count an answer that ended, in whatever way; of several answers, their mean."""
        self.of_all = _with_one_more(self.of_all, answer_tokens)
        for key in _classes(request):
            self._key_to_mean[key] = _with_one_more(self._key_to_mean.get(key, AnswerMean()), answer_tokens)
            self._key_to_mean.move_to_end(key)
        self._forget()

    def export_classes(self, part: int, *, num_parts: int) -> tuple[AnswerClass, ...]:
        """One of `num_parts` parts of the known classes, for a router that joins."""
        return tuple(AnswerClass(key, mean) for key, mean in self._key_to_mean.items() if key % num_parts == part)

    def adopt(self, of_all: AnswerMean, classes: Iterable[AnswerClass]) -> None:
        """Take over a peer's means where it has seen more answers."""
        self.of_all = max(self.of_all, of_all, key=_num_answers)
        for key, mean in classes:
            self._key_to_mean[key] = max(self._key_to_mean.get(key, AnswerMean()), mean, key=_num_answers)
        self._forget()

    def _forget(self) -> None:
        while len(self._key_to_mean) > MAX_CLASSES:
            self._key_to_mean.popitem(last=False)


def _with_one_more(mean: AnswerMean, tokens: float) -> AnswerMean:
    return AnswerMean(FORGET * mean.tokens + tokens, FORGET * mean.answers + 1)


def _num_answers(mean: AnswerMean) -> float:
    return mean.answers


def _classes(request: RouteRequest) -> list[int]:
    """Keys of the classes to which a request belongs, the widest first; all are 64-bit hashes."""
    first_block = [int(block_hash) for block_hash in request.block_hashes[:1]]
    return first_block if request.session_key is None else [*first_block, int(request.session_key)]

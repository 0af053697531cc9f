"""The order in which a replica's waiting prompts go: the shortest first, unless another one was overtaken enough.

What belongs here: the rule, without vLLM, clock or I/O. vLLM's scheduler and the replay's engine share it.

A prompt's work is counted in prefill tokens: those that it still has to compute, and `ANSWER_TOKENS` for its answer.
The prompt of least work goes next, with one restriction. When a prompt comes, the work that waits before it and its own
are what first come, first served would do until its first token. Of those that came later, no more work may go before
it than `OVERTAKING` times that. The oldest may always go, so one always may, and no prompt waits for more than
1 + `OVERTAKING` times the work of first come, first served.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

OVERTAKING = 0.5
"""Work that may go before a prompt that came earlier, as a multiple of first come, first served."""
ANSWER_TOKENS = 256
"""The work of an answer; without it, fully cached prompts would overtake for nothing and take every seat."""
NUM_LOOKS = 32
"""Number of prompts that are looked up again for each choice, in turn: all, unless very many wait."""

Key = TypeVar("Key", bound=Hashable)


class CachedPrefix:
    """How many leading blocks of a prompt are cached, looked up again at the cost of two blocks.

    Blocks are evicted from the end of a prefix, so while its last one is cached and the next is not, nothing
    has changed.

    Args:
        num_tokens: tokens of the prompt.
        num_blocks: blocks of it that can be reused; never the one with its last token.
        block_size: the size of a block, in tokens.
        is_cached: whether the block of this index is cached now.

    """

    __slots__ = ("_block_size", "_is_cached", "_num_blocks", "_num_cached", "_num_tokens")

    def __init__(self, *, num_tokens: int, num_blocks: int, block_size: int, is_cached: Callable[[int], bool]) -> None:
        self._num_tokens = num_tokens
        self._num_blocks = num_blocks
        self._block_size = block_size
        self._is_cached = is_cached
        self._num_cached = 0

    def uncached_tokens(self) -> int:
        """Tokens still to compute, as the cache is now."""
        num_cached, is_cached = self._num_cached, self._is_cached
        is_same = (not num_cached or is_cached(num_cached - 1)) and (
            num_cached == self._num_blocks or not is_cached(num_cached)
        )
        if not is_same:
            self._num_cached = bisect_left(range(self._num_blocks), True, key=lambda index: not is_cached(index))  # noqa: FBT003  a value
        return self._num_tokens - self._num_cached * self._block_size


class _Place:
    __slots__ = ("prefix", "slack_tokens", "work_tokens")

    def __init__(self, prefix: CachedPrefix) -> None:
        self.prefix = prefix
        self.work_tokens = 0
        self.slack_tokens = 0.0
        """Work of later prompts that may still go before it, in tokens."""
        self.look()

    def look(self) -> None:
        self.work_tokens = self.prefix.uncached_tokens() + ANSWER_TOKENS


class WaitingOrder(Generic[Key]):
    """The prompts that wait, in their order of arrival, and the choice among them.

    Args:
        overtaking: see `OVERTAKING`; 0 is first come, first served.

    """

    def __init__(self, *, overtaking: float) -> None:
        self._overtaking = overtaking
        self._places: dict[Key, _Place] = {}  # in order of arrival
        self._put_back: list[Key] = []  # the last one is first
        self._next_look = 0

    def __len__(self) -> int:
        return len(self._put_back) + len(self._places)

    def __iter__(self) -> Iterator[Key]:
        """The prompts that were put back, then the others as they came."""
        yield from reversed(self._put_back)
        yield from self._places

    def __contains__(self, key: Key) -> bool:
        return key in self._places or key in self._put_back

    def work_tokens(self, key: Key) -> int:
        """The work of a prompt that was not put back, as it was last looked up, in tokens."""
        return self._places[key].work_tokens

    def add(self, key: Key, prefix: CachedPrefix) -> None:
        """Take a new prompt."""
        place = _Place(prefix)
        work_tokens = place.work_tokens + sum(other.work_tokens for other in self._places.values())
        place.slack_tokens = self._overtaking * work_tokens
        self._places[key] = place

    def put_back(self, key: Key) -> None:
        """Put back a prompt that ran already: it goes before all others."""
        self._put_back.append(key)

    def choose(self) -> Key:
        """The prompt that goes next, as the cache is now; at least one must wait."""
        if self._put_back:
            return self._put_back[-1]
        if not self._overtaking:
            return next(iter(self._places))
        self._look_again()
        key = self._least_work()
        place = self._places[key]
        known_tokens = place.work_tokens
        place.look()  # it may not have been its turn
        return key if place.work_tokens == known_tokens else self._least_work()

    def start(self, key: Key) -> None:
        """Let a prompt go: those that came before it are overtaken by its work."""
        if key not in self._places:
            self._put_back.remove(key)
            return
        work_tokens = self._places[key].work_tokens
        for other, place in self._places.items():
            if other == key:
                break
            place.slack_tokens -= work_tokens
        del self._places[key]

    def remove(self, key: Key) -> None:
        """Drop a prompt that does not wait any more."""
        if self._places.pop(key, None) is None:
            self._put_back.remove(key)

    def _look_again(self) -> None:
        places = list(self._places.values())
        first = self._next_look if self._next_look < len(places) else 0
        self._next_look = first + NUM_LOOKS
        for place in places[first : self._next_look]:
            place.look()

    def _least_work(self) -> Key:
        """The prompt of least work among those that may overtake all that came before them."""
        places = iter(self._places.items())
        chosen, oldest = next(places)
        least_tokens, slack_tokens = oldest.work_tokens, oldest.slack_tokens
        for key, place in places:
            if slack_tokens <= ANSWER_TOKENS:
                break
            work_tokens = place.work_tokens
            if work_tokens < least_tokens and work_tokens <= slack_tokens:
                chosen, least_tokens = key, work_tokens
            if place.slack_tokens < slack_tokens:  # noqa: PLR1730  min() takes twice as long, and this is the hot loop
                slack_tokens = place.slack_tokens
        return chosen

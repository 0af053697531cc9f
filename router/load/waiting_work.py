"""How long each of the prompts that wait in one place will take, in order, and so how many are longer than another."""

from bisect import bisect_left, bisect_right, insort
from itertools import accumulate


class WaitingWork:
    """Seconds of each, the shortest first."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._sums_s: list[float] | None = None
        """Of the shortest none, one, two and so on; worked out when they are asked for."""

    def add(self, work_s: float) -> None:
        """One more waits."""
        insort(self._seconds, work_s)
        self._sums_s = None

    def remove(self, work_s: float) -> None:
        """One that takes exactly so long waits no more."""
        del self._seconds[bisect_left(self._seconds, work_s)]
        self._sums_s = None

    def beyond_s(self, work_s: float) -> float:
        """By how much those that take longer than this do so, in all."""
        if self._sums_s is None:
            self._sums_s = [0.0, *accumulate(self._seconds)]
        num_shorter = bisect_right(self._seconds, work_s)
        longer_s = self._sums_s[-1] - self._sums_s[num_shorter]
        return longer_s - (len(self._seconds) - num_shorter) * work_s

    def check_integrity(self, seconds: list[float]) -> None:
        """Assert that these are the ones that wait."""
        assert self._seconds == sorted(seconds)

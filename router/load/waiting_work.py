"""The work of the prompts that wait at one replica, in order of size, and so the work beyond a given size."""

from bisect import bisect_left, bisect_right, insort
from itertools import accumulate


class WaitingWork:
    """The seconds of each waiting prompt, the shortest first."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._sums_s: list[float] | None = None
        """Sums of the shortest none, one, two and so on; worked out when they are needed."""

    def add(self, work_s: float) -> None:
        """Add a prompt."""
        insort(self._seconds, work_s)
        self._sums_s = None

    def remove(self, work_s: float) -> None:
        """Remove a prompt of exactly this work."""
        del self._seconds[bisect_left(self._seconds, work_s)]
        self._sums_s = None

    def beyond_s(self, work_s: float) -> float:
        """Seconds by which the longer prompts exceed this work, in all."""
        if self._sums_s is None:
            self._sums_s = [0.0, *accumulate(self._seconds)]
        num_shorter = bisect_right(self._seconds, work_s)
        longer_s = self._sums_s[-1] - self._sums_s[num_shorter]
        return longer_s - (len(self._seconds) - num_shorter) * work_s

    def check_integrity(self, seconds: list[float]) -> None:
        """Assert that these are the waiting prompts."""
        assert self._seconds == sorted(seconds)

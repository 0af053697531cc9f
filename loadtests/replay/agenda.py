"""The events of a simulation, in virtual time."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Action = Callable[[], None]


class Agenda:
    """Things of one moment happen in the order in which they were planned."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._planned: list[tuple[float, int, Action]] = []
        self._order = count()

    def at(self, time_s: float, action: Action) -> None:
        """Plan something; what should have happened already happens now."""
        heappush(self._planned, (max(time_s, self.now_s), next(self._order), action))

    def after(self, delay_s: float, action: Action) -> None:
        """Plan something after a delay."""
        self.at(self.now_s + delay_s, action)

    def every(self, period_s: float, action: Action, *, first_s: float) -> None:
        """Plan something in every period, without end."""

        def repeat() -> None:
            action()
            self.after(period_s, repeat)

        self.at(first_s, repeat)

    def step(self) -> None:
        """Let the next thing happen."""
        self.now_s, _, action = heappop(self._planned)
        action()

    def run_until(self, end_s: float) -> None:
        """Let everything happen that is planned up to that time."""
        while self._planned and self._planned[0][0] <= end_s:
            self.step()
        self.now_s = max(self.now_s, end_s)

"""How fast a replica is, and how far it has come with what it computes.

Engines tell of a prompt when all of it is computed, and a long prompt takes seconds. In between, this guesses: the
replica computes first come, first served, as fast as it computed what it told of before. Work is in seconds of an
engine that is as fast as the model says, so that one at half speed takes two seconds for a second of work.

Times are those of the news: a prompt that is sent now begins, by the news, when its replica can have told of it.
"""

from router.state import ProgressState

FORGET = 0.98
"""What earlier prefills count, each time another one is told of: the speed is that of the last fifty or so."""
PRIOR_S = 1.0
"""So much time of an engine as fast as the model stands at the start, so that one odd prefill decides nothing."""


class Progress:
    """Of one replica."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._work_s = 0.0
        self._seconds = 0.0
        self.speed = 1.0
        """Seconds of work done in a second."""

    def start(self, *, now: float) -> None:
        """The replica begins with another prompt, by the news at that time."""
        self._since = now

    def prefilled(self, work_s: float, *, steps_s: float = 0.0, now: float) -> None:
        """So much work has been done since the start, in steps that take so much beside, and the next prompt begins.

        Prompts that end at one moment were computed in the same steps, which count once.
        """
        elapsed_s = 0.0 if self._since is None else now - self._since
        self._work_s = FORGET * self._work_s + work_s + (steps_s if elapsed_s else 0.0)
        self._seconds = max(0.0, FORGET * self._seconds + elapsed_s)  # news may be earlier than it is as a rule
        self._since = now
        self._set_speed()

    def export(self, *, now: float) -> ProgressState:
        """All that is known, for a router that joins."""
        return ProgressState(0.0 if self._since is None else now - self._since, self._work_s, self._seconds)

    def adopt(self, state: ProgressState, *, now: float) -> None:
        """Know what a peer knows, who has seen more."""
        if state.work_s > self._work_s:
            self._work_s, self._seconds, self._since = state.work_s, state.seconds, now - state.elapsed_s
            self._set_speed()

    def work_s(self, *, now: float) -> float:
        """Done since the start, by guess. May exceed what there is to do."""
        return 0.0 if self._since is None else self.speed * max(0.0, now - self._since)

    def _set_speed(self) -> None:
        self.speed = (PRIOR_S + self._work_s) / (PRIOR_S + self._seconds)

"""The speed of a replica, and its progress with the prompt that it computes.

Engines tell of a prompt when all of it is computed, and a long prompt takes seconds. In between, progress is estimated:
the replica computes first come, first served, at its speed with the prompts of which it told before. Work is in seconds
of an engine of the model's speed, so an engine at half that speed takes two seconds for a second of work.

Times are those of the news: a prompt that is sent now begins when its replica can have told of it.
"""

from router.state import ProgressState

FORGET = 0.98
"""Weight of all earlier prefills with each new one: the speed is that of the last fifty or so."""
PRIOR_S = 1.0
"""Time at the model's speed that is counted at the start, in seconds, so that one odd prefill decides nothing."""


class Progress:
    """The progress of one replica."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._work_s = 0.0
        self._seconds = 0.0
        self.speed = 1.0
        """Work done in a second, in seconds at the model's speed."""

    def start(self, *, now: float) -> None:
        """The replica begins with another prompt, by the news of that time."""
        self._since = now

    def prefilled(self, work_s: float, *, steps_s: float = 0.0, now: float) -> None:
        """The replica has done this work since the start, in steps that took `steps_s` besides, and begins with the
        next one.

        Prompts that end at the same moment were computed in the same steps, which count once.
        """
        elapsed_s = 0.0 if self._since is None else now - self._since
        self._work_s = FORGET * self._work_s + work_s + (steps_s if elapsed_s else 0.0)
        self._seconds = max(0.0, FORGET * self._seconds + elapsed_s)  # news may be earlier than usual
        self._since = now
        self._set_speed()

    def export(self, *, now: float) -> ProgressState:
        """The whole state, for a router that joins."""
        return ProgressState(0.0 if self._since is None else now - self._since, self._work_s, self._seconds)

    def adopt(self, state: ProgressState, *, now: float) -> None:
        """Take over a peer's state, if it has seen more work."""
        if state.work_s > self._work_s:
            self._work_s, self._seconds, self._since = state.work_s, state.seconds, now - state.elapsed_s
            self._set_speed()

    def work_s(self, *, now: float) -> float:
        """Estimated work done since the start, in seconds at the model's speed. May exceed the work that there is."""
        return 0.0 if self._since is None else self.speed * max(0.0, now - self._since)

    def _set_speed(self) -> None:
        self.speed = (PRIOR_S + self._work_s) / (PRIOR_S + self._seconds)

"""How far a replica has come with what it computes.

Engines tell of a prompt when all of it is computed, and a long prompt takes seconds. In between, this guesses: the
replica computes first come, first served, as fast as it computed what it told of before.
"""

from router.state import ProgressState

FORGET = 0.98
"""What earlier prefills count, each time another one is told of: the rate is that of the last fifty or so."""


class Progress:
    """Of one replica."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._tokens = 0.0
        self._seconds = 0.0

    def start(self, *, now: float) -> None:
        """The replica begins with another prompt."""
        self._since = now

    def prefilled(self, tokens: int, *, now: float) -> None:
        """So many tokens more have been computed since the start, and the next prompt begins."""
        elapsed_s = 0.0 if self._since is None else now - self._since
        self._tokens = FORGET * self._tokens + tokens
        self._seconds = FORGET * self._seconds + elapsed_s
        self._since = now

    def export(self, *, now: float) -> ProgressState:
        """All that is known, for a router that joins."""
        return ProgressState(self._tokens, self._seconds, 0.0 if self._since is None else now - self._since)

    def adopt(self, state: ProgressState, *, now: float) -> None:
        """Know what a peer knows, who has seen more."""
        if state.seconds > self._seconds:
            self._tokens, self._seconds, self._since = state.tokens, state.seconds, now - state.elapsed_s

    def tokens(self, *, now: float) -> float:
        """Computed since the start, by guess; 0 while no rate is known. May exceed what there is to compute."""
        if self._since is None or not self._seconds:
            return 0.0
        return self._tokens / self._seconds * (now - self._since)

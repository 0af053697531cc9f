"""How often the operators' token may be guessed."""

import time
from collections import deque
from collections.abc import Callable

MAX_WRONG = 10
MAX_WRONG_IN_ALL = 100
WINDOW_S = 60.0
"""At most `MAX_WRONG` wrong guesses from one address, and `MAX_WRONG_IN_ALL` from all addresses together, are looked at
within `WINDOW_S` seconds. The first limit lets people mistype. The second one works where addresses are cheap to
change, as behind a proxy that passes on its client's `x-forwarded-for`: eight random letters and digits then last for
50,000 years."""


class GuessLimit:
    """Remembers the wrong guesses of the window, at most `max_wrong_in_all`.

    Args:
        clock: seconds, from any start; it must not go back.

    """

    def __init__(
        self,
        *,
        max_wrong: int = MAX_WRONG,
        max_wrong_in_all: int = MAX_WRONG_IN_ALL,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_wrong = max_wrong
        self._max_wrong_in_all = max_wrong_in_all
        self._window_s = window_s
        self._clock = clock
        self._wrong: deque[tuple[float, str]] = deque()  # when, and from where; oldest first

    def wait_s(self, address: str) -> float:
        """Seconds that this address has to wait for its next guess; 0 if it may guess now."""
        now_s = self._clock()
        while self._wrong and self._wrong[0][0] <= now_s - self._window_s:
            self._wrong.popleft()
        in_all = [guessed_s for guessed_s, _ in self._wrong]
        from_there = [guessed_s for guessed_s, its_address in self._wrong if its_address == address]
        waits_s = [
            guesses[-most] + self._window_s - now_s
            for guesses, most in ((from_there, self._max_wrong), (in_all, self._max_wrong_in_all))
            if len(guesses) >= most
        ]
        return max(waits_s, default=0.0)

    def count(self, address: str) -> None:
        """Count a wrong guess from an address that did not have to wait."""
        self._wrong.append((self._clock(), address))

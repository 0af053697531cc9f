"""Amounts that all fade by half in a fixed time, without an update of each.

An amount is stored as it would have been at the start of the epoch: later amounts are stored larger, and all fade alike
(forward decay: Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009).
"""

import math

MAX_EPOCH_HALF_LIVES = 100
"""Length of an epoch, far from where floats end."""


class Fading:
    """The scale between amounts as stored and as they are now.

    Args:
        half_life_s: the time in which amounts fade by half.

    """

    def __init__(self, *, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._epoch_s: float | None = None
        self._growth = 1.0

    def advance(self, *, now: float) -> float | None:
        """Let time pass up to now. Where that ends the epoch, returns the factor for all stored amounts, else None."""
        if self._epoch_s is None:
            self._epoch_s = now
        num_half_lives = (now - self._epoch_s) / self._half_life_s
        if num_half_lives < MAX_EPOCH_HALF_LIVES:
            self._growth = math.exp2(num_half_lives)
            return None
        self._epoch_s, self._growth = now, 1.0
        return math.exp2(-min(num_half_lives, 1000.0))

    def stored(self, amount: float) -> float:
        """An amount of now, as stored."""
        return amount * self._growth

    def faded(self, stored: float) -> float:
        """A stored amount, as of now."""
        return stored / self._growth

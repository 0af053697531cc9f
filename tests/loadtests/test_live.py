"""Waiting for counters that are exported late."""

import itertools
from collections.abc import Iterator

import pytest

from loadtests.live import LiveError, settled


class FakeClock:
    """Time passes by sleeping only."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """At once."""
        self.now_s += seconds


async def settle(values: Iterator[int], clock: FakeClock, *, timeout_s: float = 100) -> int:
    """With the quiet time of the tests."""

    async def read() -> int:
        return next(values)

    return await settled(read, quiet_s=5, timeout_s=timeout_s, clock=clock, sleep=clock.sleep)


async def test_a_value_counts_once_it_has_stood_still() -> None:
    """A change starts the quiet time anew."""
    clock = FakeClock()
    assert await settle(itertools.chain([1, 1, 1, 2, 2, 3], itertools.repeat(4)), clock) == 4
    assert clock() == 6 + 5


async def test_what_never_stands_still_is_an_error() -> None:
    """Somebody else uses the server."""
    with pytest.raises(LiveError, match="still change after 20 s"):
        await settle(itertools.count(), FakeClock(), timeout_s=20)

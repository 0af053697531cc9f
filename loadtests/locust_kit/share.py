"""A process's share of the sessions and their times: any number of processes make the same run. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count, islice, repeat
from random import Random


@dataclass(frozen=True, slots=True)
class SessionShare:
    """The share of one of `num_processes`, with its index, from 0."""

    index: int
    num_processes: int

    def numbers(self, num_sessions: int) -> Iterator[int]:
        """Numbers of the sessions that this process sends; without end if there are 0 in all."""
        every = self.num_processes
        return iter(range(self.index, num_sessions, every)) if num_sessions else count(self.index, every)

    def arrivals(self, num_sessions: int, *, rate: float, seed: int) -> Iterator[tuple[float, int]]:
        """The start of each session, in seconds; all processes together make a Poisson process of that rate."""
        rng = Random(f"arrivals {seed}")
        times_s = accumulate(rng.expovariate(each) for each in repeat(rate))
        return zip(islice(times_s, self.index, None, self.num_processes), self.numbers(num_sessions), strict=False)

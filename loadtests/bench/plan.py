"""The plan of a bench. Pure: the same plan gives the same cells, sessions and arrivals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from loadtests.bench.traffic import NamedWorkload
from loadtests.workloads import Session, sessions, with_long_answers_scaled

CAPACITY_REPETITION = -1
"""Sessions of its own, which no cell repeats."""


@dataclass(frozen=True, slots=True)
class BenchCell:
    """One measurement: some sessions at one rate, by one routing, from empty caches."""

    workload: str
    load: float
    routing: str
    repetition: int
    """Number of the repetition, from 0."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What the command line asks for."""

    workloads: Sequence[NamedWorkload]
    loads: Sequence[float]
    """1.0 is what the capacity run found."""
    routings: Sequence[str]
    repetitions: int
    num_requests: int
    """Least number of requests in a cell, in as many sessions as make them."""
    seed: int
    think_scale: float
    """A factor on the users' pauses."""
    answer_scale: float
    """A factor on the lengths of `reasoning`'s and `mixed`'s long answers."""
    ttft_slo_s: float
    capacity_s: float
    """Seconds for which each workload's capacity is measured."""

    @property
    def num_cells(self) -> int:
        """The number of cells, without the capacity runs."""
        return len(self.workloads) * len(self.loads) * len(self.routings) * self.repetitions

    def cells(self) -> Iterator[BenchCell]:
        """Every repetition has each cell once, in an order of its own: a drift of the machine favours no routing."""
        names = [each.name for each in self.workloads]
        for repetition in range(self.repetitions):
            cells = [BenchCell(*case, repetition) for case in product(names, self.loads, self.routings)]
            Random(f"order {self.seed} {repetition}").shuffle(cells)
            yield from cells

    def sessions(self, workload: str, repetition: int) -> list[Session]:
        """The same for every routing and load of a repetition."""
        chosen: list[Session] = []
        num_left = self.num_requests
        for session in self._endless(workload, repetition):
            chosen.append(session)
            num_left -= len(session.turns)
            if num_left <= 0:
                break
        return chosen

    def capacity_sessions(self, workload: str) -> Iterator[Session]:
        """Sessions without end, for measuring the capacity."""
        return self._endless(workload, CAPACITY_REPETITION)

    def starts_s(self, workload: str, repetition: int, *, num_sessions: int, sessions_per_s: float) -> list[float]:
        """The start of each session, in seconds: a Poisson process, stretched to the rate."""
        rng = Random(f"arrivals {self.seed} {workload} {repetition}")
        at_s, starts = 0.0, []
        for _ in range(num_sessions):
            starts.append(at_s)
            at_s += rng.expovariate(sessions_per_s)
        return starts

    def _endless(self, workload: str, repetition: int) -> Iterator[Session]:
        traffic = next(each for each in self.workloads if each.name == workload)
        seed = Random(f"sessions {self.seed} {workload} {repetition}").getrandbits(32)
        endless = sessions(traffic.workload, traffic.texts, seed=seed)
        return (with_long_answers_scaled(each, self.answer_scale) for each in endless)

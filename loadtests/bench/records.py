"""What is kept of a measurement: numbers and names, of texts nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.plan import Cell
from loadtests.client.answers import Outcome

TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Record:
    """One request. Times are seconds from when it was due, however late it was sent: what a user waits."""

    session: str
    turn: int
    due_s: float
    """From the cell's start."""
    late_s: float
    """From due to sent, by which this process did not keep up."""
    outcome: Outcome
    status: int | None
    replica: str | None
    reason: str | None
    """Of the routing decision; of Ray's routers none is known."""
    ttft_s: float | None
    end_to_end_s: float
    prompt_tokens: int
    cached_tokens: int

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer came."""
        return self.outcome is Outcome.COMPLETE

    @property
    def is_rejected(self) -> bool:
        """Whether the replica had too much to do, and said so."""
        return self.status == TOO_MANY_REQUESTS


@dataclass(frozen=True, slots=True)
class CellResult:
    """A cell, measured."""

    cell: Cell
    num_replicas: int
    duration_s: float
    """From the first request's due time to the last answer's end."""
    setup_s: float
    """To change the routing and empty the caches."""
    records: Sequence[Record]

    @property
    def began_cold(self) -> bool:
        """Whether the request that was due first found no more than the caches' common beginning."""
        return not self.records or min(self.records, key=lambda each: each.due_s).cached_tokens == 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What round robin served in a closed loop without pauses: load 1.0 of a workload."""

    workload: str
    num_users: int
    requests_per_s: float
    uncached_tokens_per_s: float
    turns_per_session: float
    """Of the cells' sessions."""

    def sessions_per_s(self, load: float) -> float:
        """The rate at which sessions start at a load."""
        return load * self.requests_per_s / self.turns_per_session


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured."""

    capacities: Sequence[Capacity]
    cells: Sequence[CellResult]
    engine: str
    """By the responses' header: `simulated`, or `vllm` where there is none."""
    ended_early: str = ""
    """Why not all cells were measured, if so."""

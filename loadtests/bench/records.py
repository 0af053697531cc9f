"""The records of a measurement: numbers and names, and no text."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.plan import BenchCell
from loadtests.client.exchange import Exchange

REPORTED = (
    "session",
    "turn",
    "due_s",
    "late_s",
    "outcome",
    "status",
    "replica",
    "reason",
    "ttft_s",
    "end_to_end_s",
    "prompt_tokens",
    "cached_tokens",
)
"""What a report's file has of each request."""


@dataclass(slots=True, kw_only=True)
class SentTurn(Exchange):
    """One request of a session. Its times count from when it was due, however late it was sent: what a user waits."""

    session: str
    turn: int
    due_s: float
    """When it was due, in seconds from the cell's start."""
    late_s: float
    """Seconds from due to sent, by which this process did not keep up."""

    @property
    def end_to_end_s(self) -> float:
        """Time to the answer's end, in seconds."""
        assert self.duration_s is not None, f"{self.request_id} is under way"
        return self.duration_s

    def as_json(self) -> dict[str, object]:
        """The record for the report's file."""
        return {name: getattr(self, name) for name in REPORTED}


@dataclass(frozen=True, slots=True)
class CellResult:
    """A cell, measured."""

    cell: BenchCell
    num_replicas: int
    duration_s: float
    """Seconds from the first request's due time to the last answer's end."""
    setup_s: float
    """Seconds to change the routing and empty the caches."""
    records: Sequence[SentTurn]

    @property
    def began_cold(self) -> bool:
        """Whether the request that was due first found nothing cached."""
        return not self.records or min(self.records, key=lambda each: each.due_s).cached_tokens == 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What round robin served in a closed loop without pauses: load 1.0 of a workload."""

    workload: str
    num_users: int
    requests_per_s: float
    uncached_tokens_per_s: float
    turns_per_session: float
    """Mean number of turns of the cells' sessions."""

    def sessions_per_s(self, load: float) -> float:
        """The rate at which sessions start at a load."""
        return load * self.requests_per_s / self.turns_per_session


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured."""

    capacities: Sequence[Capacity]
    cells: Sequence[CellResult]
    engine: str
    """The engine by the responses' header: `simulated`, or `vllm` where there is none."""
    ended_early: str = ""
    """Why not all cells were measured, if so."""

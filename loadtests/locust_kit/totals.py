"""What a run has measured so far; workers send theirs to the master, which adds them up. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from loadtests.client.exchange import Exchange

COLD_TTFT, WARM_TTFT, INTER_TOKEN = "TTFT cold", "TTFT warm", "inter-token time"
REAL = "real"


def exchange_rows(exchange: Exchange) -> Iterator[tuple[str, float]]:
    """The rows in which a complete request is shown, each with its time in seconds."""
    assert exchange.duration_s is not None, "it is complete"
    yield exchange.kind, exchange.duration_s
    if exchange.ttft_s is not None:
        yield WARM_TTFT if exchange.is_warm else COLD_TTFT, exchange.ttft_s
    if exchange.inter_token_s is not None:
        yield INTER_TOKEN, exchange.inter_token_s


@dataclass(slots=True)
class Totals:
    """Counts and sums, and every time: Locust's own statistics round them."""

    num_sessions: int = 0
    """Sessions that have ended."""
    num_complete: int = 0
    num_shed: int = 0
    failure_to_count: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    row_to_times_s: dict[str, list[float]] = field(default_factory=dict)
    engines: set[str] = field(default_factory=set)
    max_late_s: float = 0.0
    """How late a session began at worst: how well the sender kept up with its own arrivals."""
    problems: set[str] = field(default_factory=set)
    """Why a process could not send."""

    @property
    def num_requests(self) -> int:
        """All requests, however they ended."""
        return self.num_complete + self.num_shed + self.failure_to_count.total()

    @property
    def error_share(self) -> float:
        """The share of requests that failed."""
        return self.failure_to_count.total() / self.num_requests if self.num_requests else 0.0

    @property
    def hit_rate(self) -> float:
        """Cached tokens of all prompt tokens: a ratio of sums, so long prompts count for more."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def engine(self) -> str:
        """The engine that answered; more than one name if the run met several."""
        return ", ".join(sorted(self.engines))

    def add(self, exchange: Exchange) -> None:
        """Add a request that has ended."""
        if exchange.is_shed:
            self.num_shed += 1
        elif not exchange.is_complete:
            self.failure_to_count[exchange.outcome_text] += 1
        else:
            self._add_complete(exchange)

    def _add_complete(self, exchange: Exchange) -> None:
        self.num_complete += 1
        self.prompt_tokens += exchange.prompt_tokens
        self.cached_tokens += exchange.cached_tokens
        self.answer_tokens += exchange.answer_tokens
        self.engines.add(exchange.engine or REAL)
        for row, time_s in exchange_rows(exchange):
            self.row_to_times_s.setdefault(row, []).append(time_s)

    def merge(self, other: Self) -> None:
        """Add what another process measured."""
        self.num_sessions += other.num_sessions
        self.num_complete += other.num_complete
        self.num_shed += other.num_shed
        self.failure_to_count.update(other.failure_to_count)
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.answer_tokens += other.answer_tokens
        for row, times_s in other.row_to_times_s.items():
            self.row_to_times_s.setdefault(row, []).extend(times_s)
        self.engines |= other.engines
        self.max_late_s = max(self.max_late_s, other.max_late_s)
        self.problems |= other.problems

    def as_message(self) -> dict[str, Any]:
        """The totals in types that Locust can send."""
        content = {name: getattr(self, name) for name in self.__slots__}
        lists = {"engines": sorted(self.engines), "problems": sorted(self.problems)}
        return content | {"failure_to_count": dict(self.failure_to_count)} | lists

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Self:
        """What `as_message` made."""
        sets = {name: set(message[name]) for name in ("engines", "problems")}
        return cls(**(message | {"failure_to_count": Counter(message["failure_to_count"])} | sets))

"""What a run gives, and its summary."""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import fmean

from loadtests.replay.books import BookSample
from loadtests.statistics import percentile
from router import ReplicaId, RequestId


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that got its first token."""

    request_id: RequestId
    arrival_s: float
    replica_id: ReplicaId
    ttft_s: float
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run from its first arrival until nothing can be booked any more."""

    records: tuple[RequestRecord, ...]
    """In order of their first tokens."""
    samples: tuple[BookSample, ...]
    """Of all routers, in order of time."""
    num_finished: int
    num_asked: int
    """How often another router was asked what it would have chosen."""
    num_agreed: int
    num_sent: int
    """Attempts; more than requests where replicas crashed."""
    end_s: float
    """When the last request finished."""
    replica_to_computed_tokens: dict[ReplicaId, int]
    router_to_reservations_left: dict[str, int]
    """Per router that was running in the end."""

    @property
    def agreement(self) -> float:
        """Share of the questions to other routers that were answered with the replica that was chosen."""
        return self.num_agreed / self.num_asked if self.num_asked else 1.0

    def arrived_within(self, start_s: float, end_s: float) -> list[RequestRecord]:
        """The requests that arrived from `start_s` to `end_s`."""
        return [record for record in self.records if start_s <= record.arrival_s < end_s]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of some requests."""

    hit_rate: float
    """Cached of all prompt tokens."""
    mean_ttft_s: float
    p50_ttft_s: float
    p95_ttft_s: float
    prompt_imbalance: float
    """Prompt tokens of the replica with the most over the mean of all."""
    computed_imbalance: float
    """The same of the tokens that had to be computed."""


def summarize(records: Collection[RequestRecord], *, num_replicas: int) -> Summary:
    """Summary of at least one request."""
    prompt_tokens, computed_tokens = Counter[ReplicaId](), Counter[ReplicaId]()
    for record in records:
        prompt_tokens[record.replica_id] += record.prompt_tokens
        computed_tokens[record.replica_id] += record.prompt_tokens - record.cached_tokens
    ttfts_s = [record.ttft_s for record in records]
    return Summary(
        hit_rate=hit_rate(records),
        mean_ttft_s=mean_ttft_s(records),
        p50_ttft_s=percentile(ttfts_s, 50),
        p95_ttft_s=percentile(ttfts_s, 95),
        prompt_imbalance=_imbalance(prompt_tokens, num_replicas),
        computed_imbalance=_imbalance(computed_tokens, num_replicas),
    )


def hit_rate(records: Iterable[RequestRecord]) -> float:
    """Cached of all prompt tokens; not a number where there are none."""
    totals = [(record.cached_tokens, record.prompt_tokens) for record in records]
    prompt_tokens = sum(prompt for _, prompt in totals)
    return sum(cached for cached, _ in totals) / prompt_tokens if prompt_tokens else math.nan


def mean_ttft_s(records: Collection[RequestRecord]) -> float:
    """Not a number where there is no request."""
    return fmean(record.ttft_s for record in records) if records else math.nan


def _imbalance(replica_to_tokens: Counter[ReplicaId], num_replicas: int) -> float:
    return max(replica_to_tokens.values()) * num_replicas / replica_to_tokens.total()

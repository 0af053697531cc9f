"""What a run gives, and its summary. Every rate is a ratio of sums, never a mean of ratios."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, quantiles

from loadtests.replay.lives import ReplicaLife
from loadtests.replay.reservation_check import ReservationSample
from loadtests.report.statistics import percentile
from router import Funnel, ReplicaId, RequestId, ShadowTotals
from serve_app.telemetry.funnel_report import add_up

TTFT_LIMIT_S = 2.0
"""A first token that comes later is no good answer, unless another limit is given."""
WINDOW_S = 30.0
"""Seconds over which work should be even, unless another time is given."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that got its first token."""

    request_id: RequestId
    arrival_s: float
    replica_id: ReplicaId
    ttft_s: float
    prompt_tokens: int
    cached_tokens: int
    answer_s: float = math.nan
    """Seconds from the arrival to the last token; not a number before that."""

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that were not cached."""
        return self.prompt_tokens - self.cached_tokens

    @property
    def first_token_s(self) -> float:
        """The time of the first token."""
        return self.arrival_s + self.ttft_s


@dataclass(frozen=True, slots=True)
class CacheSample:
    """The blocks in all replicas' caches at one moment."""

    time_s: float
    num_blocks: int
    num_distinct: int
    """Each block counted once, however many replicas have it."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A run from its first arrival until the last reservation has expired."""

    records: tuple[RequestRecord, ...]
    """Requests in order of their first tokens."""
    samples: tuple[ReservationSample, ...]
    """Checks of all routers' reservations, in order of time."""
    cache_samples: tuple[CacheSample, ...]
    finished_s: tuple[float, ...]
    """Times of each request's last token, in order."""
    num_asked: int
    """Number of questions to other routers what they would have chosen."""
    num_agreed: int
    num_sent: int
    """Attempts; more than requests where replicas crashed."""
    last_start_s: float
    """The last arrival that waited for no answer: in a closed loop, the last session's first request."""
    replica_to_computed_tokens: dict[ReplicaId, int]
    router_to_reservations_left: dict[str, int]
    """Per router that was running in the end."""
    deciding_s: float = field(compare=False)
    """Time that decisions took, by the clock that was given: the one thing that is not virtual."""
    shadow_to_totals: dict[str, ShadowTotals] = field(default_factory=dict)
    """Totals of all routers' shadows, by policy."""
    funnels: dict[tuple[ReplicaId, str], Funnel] = field(default_factory=dict)
    """What all routers say became of the prompts that they placed, by replica and tenant."""
    lives: tuple[ReplicaLife, ...] = ()
    """The lives of every replica that ever was, in order of joining."""

    @property
    def funnel(self) -> Funnel:
        """The funnel of all prompts."""
        return add_up(self.funnels.values())

    @property
    def num_finished(self) -> int:
        """Requests that got all of their answer."""
        return len(self.finished_s)

    @property
    def agreement(self) -> float:
        """Share of the questions to other routers that were answered with the replica that was chosen."""
        return self.num_agreed / self.num_asked if self.num_asked else 1.0

    def arrived_within(self, start_s: float, end_s: float) -> list[RequestRecord]:
        """The requests that arrived from `start_s` to `end_s`."""
        return [record for record in self.records if start_s <= record.arrival_s < end_s]


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of a run."""

    hit_rate: float
    """Cached of all prompt tokens."""
    mean_ttft_s: float
    p50_ttft_s: float
    p90_ttft_s: float
    p95_ttft_s: float
    p99_ttft_s: float
    mean_answer_s: float
    """Mean seconds from the arrival to the last token."""
    p99_answer_s: float
    goodput_rps: float
    """Requests a second whose first token came within the limit, from the first arrival until `Replay.last_start_s`: a
    time that is the same for all policies. What comes after is no measure of them: the longest session decides how
    long that takes, and most replicas are idle in that time.
    """
    served_rps: float
    """Requests a second that got their last token in the same time."""
    prompt_imbalance: float
    """Prompt tokens of the replica with the most over the mean of all."""
    computed_imbalance: float
    """The same of the tokens that had to be computed."""
    window_imbalance: float
    """The same in windows of time: the sum of each window's most over the sum of each window's mean."""
    copies: float
    """Mean number of replicas that had a block, of those that any had; not a number where caches were not sampled."""
    decisions_per_s: float
    """Decisions in a second of real time; not a number without a clock."""


@dataclass(frozen=True, slots=True)
class WorkWindow:
    """The work in a stretch of time."""

    start_s: float
    most_tokens: int
    """Computed tokens of the replica with the most, of prompts whose first token came in this window."""
    mean_tokens: float
    """Over all replicas."""


def summarize(
    run: Replay, *, num_replicas: int, ttft_limit_s: float = TTFT_LIMIT_S, window_s: float = WINDOW_S
) -> Summary:
    """Summary of at least one request; replicas are as many as it started with."""
    records = run.records
    ttfts_s = [record.ttft_s for record in records]
    offered_s = run.last_start_s - min(record.arrival_s for record in records)
    windows = in_windows(records, num_replicas=num_replicas, window_s=window_s)
    return Summary(
        hit_rate=hit_rate(records),
        mean_ttft_s=mean_ttft_s(records),
        p50_ttft_s=percentile(ttfts_s, 50),
        p90_ttft_s=percentile(ttfts_s, 90),
        p95_ttft_s=percentile(ttfts_s, 95),
        p99_ttft_s=percentile(ttfts_s, 99),
        mean_answer_s=fmean(record.answer_s for record in records),
        p99_answer_s=percentile([record.answer_s for record in records], 99),
        goodput_rps=_ratio(
            sum(each.ttft_s <= ttft_limit_s and each.first_token_s <= run.last_start_s for each in records), offered_s
        ),
        served_rps=_ratio(sum(finished_s <= run.last_start_s for finished_s in run.finished_s), offered_s),
        prompt_imbalance=_imbalance(((each.replica_id, each.prompt_tokens) for each in records), num_replicas),
        computed_imbalance=_imbalance(((each.replica_id, each.computed_tokens) for each in records), num_replicas),
        window_imbalance=_ratio(
            sum(window.most_tokens for window in windows), sum(window.mean_tokens for window in windows)
        ),
        copies=_ratio(
            sum(each.num_blocks for each in run.cache_samples), sum(each.num_distinct for each in run.cache_samples)
        ),
        decisions_per_s=_ratio(run.num_sent, run.deciding_s),
    )


def in_windows(records: Iterable[RequestRecord], *, num_replicas: int, window_s: float) -> tuple[WorkWindow, ...]:
    """The windows in which there was work, in order of time."""
    window_to_work: dict[int, Counter[ReplicaId]] = {}
    for record in records:
        work = window_to_work.setdefault(int(record.first_token_s // window_s), Counter())
        work[record.replica_id] += record.computed_tokens
    return tuple(
        WorkWindow(number * window_s, max(work.values()), work.total() / num_replicas)
        for number, work in sorted(window_to_work.items())
    )


def hit_rate(records: Iterable[RequestRecord]) -> float:
    """Cached of all prompt tokens; not a number where there are none."""
    totals = [(record.cached_tokens, record.prompt_tokens) for record in records]
    return _ratio(sum(cached for cached, _ in totals), sum(prompt for _, prompt in totals))


def mean_ttft_s(records: Collection[RequestRecord]) -> float:
    """The mean time to the first token; not a number where there is no request."""
    return fmean(record.ttft_s for record in records) if records else math.nan


def ttft_quantiles_s(records: Sequence[RequestRecord]) -> tuple[float, ...]:
    """The least, the 99 percentiles and the most, of at least one request."""
    ttfts_s = sorted(record.ttft_s for record in records)
    inner = quantiles(ttfts_s, n=100, method="inclusive") if len(ttfts_s) > 1 else ttfts_s * 99
    return (ttfts_s[0], *inner, ttfts_s[-1])


def _imbalance(work: Iterable[tuple[ReplicaId, int]], num_replicas: int) -> float:
    replica_to_tokens = Counter[ReplicaId]()
    for replica_id, tokens in work:
        replica_to_tokens[replica_id] += tokens
    return _ratio(max(replica_to_tokens.values()) * num_replicas, replica_to_tokens.total())


def _ratio(amount: float, of: float) -> float:
    return amount / of if of else math.nan

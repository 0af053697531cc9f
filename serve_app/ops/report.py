"""What the operators' application answers: the schema of its JSON, and how it is made. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from pydantic import BaseModel, Field

from router import Funnel
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.snapshot import HotPrefix, RouterSnapshot
from serve_app.messages.ttft import Histogram
from serve_app.ops.history import Series
from serve_app.telemetry.metrics import RANK, TENANT
from serve_app.telemetry.replica_table import ReplicaRow, replica_rows


class HitRates(BaseModel):
    """Ratios of sums, each 0 to 1; null where there is nothing to divide by."""

    predicted: float | None = Field(description="Tokens estimated to be cached on the chosen replicas, of all offered")
    actual: float | None = Field(description="Tokens that engines reused, by their own count, of all offered")
    reachable: float | None = Field(description="Tokens that the replica with most of them cached had, of all offered")
    shared: float | None = Field(
        description="Tokens reused, of those in prefixes that several prompts share, such as a system prompt"
    )


class Latency(BaseModel):
    """Times to first token at the replicas, in seconds; null without any."""

    number: int
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None


class Ttfts(BaseModel):
    """Times to first token of prompts that were at least half reused (warm), and of the others (cold)."""

    cold: Latency
    warm: Latency


class Figures(BaseModel):
    """What became of some prompts."""

    tokens: Funnel = Field(
        description="Where prompt tokens went: offered = reused + all that was lost, by cause: docs/concepts/funnel.md"
    )
    hit_rates: HitRates
    ttft: Ttfts


class ReplicaReport(BaseModel):
    """One replica, now and in the window."""

    rank: int = Field(description="The replica's number, which outlives its process")
    replica: str
    state: str = Field(description="`ok`, or what is wrong")
    knowledge: str = Field(description="How routers know what it has cached: `kv_events` or `receipts`")
    waiting: int = Field(description="Sequences without a first token: one for each answer to each prompt")
    running: int = Field(description="Sequences that are being decoded")
    pending_tokens: int = Field(description="Prompt tokens that are still to compute")
    kv_use: float | None = Field(description="Share of its KV cache that running requests use, 0 to 1")
    held: float = Field(description="Share of its KV cache that is filled with prefixes, estimated, 0 to 1")
    ring_share: float = Field(description="Share of all keys that the ring gives to it, 0 to 1")
    figures: Figures


class Prefix(BaseModel):
    """A prefix that several prompts share."""

    hash: str = Field(
        description="The prefix's name, which says nothing of its text, and is another one after a restart"
    )
    tokens: int
    work_share: float = Field(description="Share of recent work that was for prompts with this prefix, 0 to 1")
    fan_out: int = Field(description="Number of replicas that the prefix is meant for")
    ranks: list[int] = Field(description="Ranks of the replicas that have it cached")


class TenantReport(BaseModel):
    """One tenant in the window."""

    name: str = Field(description="One of `replicas.tenants`; `other` for other names, `none` for requests without one")
    figures: Figures


class ApplicationReport(BaseModel):
    """One model's application."""

    name: str
    model: str
    engine: str = Field(description="`vllm`, or `simulated`: then all times are a model's")
    policy: str
    routers: int
    decisions: dict[str, int] = Field(description="By reason, since the routers started")
    figures: Figures
    replicas: list[ReplicaReport]
    tenants: list[TenantReport] = Field(description="Those with prompts in the window; none where none are configured")
    prefixes: list[Prefix]


class Overview(BaseModel):
    """All applications."""

    read_at_s: float | None = Field(description="Unix time of what is said of now; null before the first look")
    window: str
    fault: str | None = Field(description="Why history is not being written; null if it is")
    applications: list[ApplicationReport]


class Bucket(BaseModel):
    """One stretch of time."""

    start_s: int = Field(description="Unix time")
    figures: Figures


class HistoryReport(BaseModel):
    """One application's buckets, oldest first; those without prompts are left out."""

    application: str
    window: str
    bucket_s: int
    start_s: int = Field(description="Unix time of the first bucket, empty or not")
    end_s: int = Field(description="Unix time of now")
    buckets: list[Bucket]


def application_report(
    name: str,
    snapshots: Sequence[RouterSnapshot],
    prefixes: Iterable[HotPrefix],
    series_to_totals: Mapping[Series, PromptTotals],
) -> ApplicationReport:
    """One application, of which at least one router has answered, and its totals of the window."""
    first = snapshots[0]
    rank_to_totals, tenant_to_totals = (_labelled(name, label, series_to_totals) for label in (RANK, TENANT))
    decisions: Counter[str] = Counter()
    for snapshot in snapshots:
        decisions.update(snapshot.decisions)
    whole = PromptTotals()
    for totals in rank_to_totals.values():
        whole.merge(totals)
    return ApplicationReport(
        name=name,
        model=first.model,
        engine=first.engine,
        policy=first.policy,
        routers=len(snapshots),
        decisions=decisions,
        figures=figures(whole),
        replicas=[
            _replica_report(row, rank_to_totals.get(str(row.rank), PromptTotals())) for row in replica_rows(snapshots)
        ],
        tenants=[
            TenantReport(name=tenant, figures=figures(totals)) for tenant, totals in sorted(tenant_to_totals.items())
        ],
        prefixes=[Prefix(**msgspec.structs.asdict(prefix)) for prefix in prefixes],
    )


def figures(totals: PromptTotals) -> Figures:
    """Rates and times of some prompts."""
    return Figures(
        tokens=totals.funnel,
        hit_rates=_hit_rates(totals.funnel),
        ttft=Ttfts(cold=_latency(totals.ttft.cold), warm=_latency(totals.ttft.warm)),
    )


def _labelled(application: str, label: str, series_to_totals: Mapping[Series, PromptTotals]) -> dict[str, PromptTotals]:
    """An application's totals by the label's value."""
    wanted = (application, label)
    return {series.value: totals for series, totals in series_to_totals.items() if series[:2] == wanted}


def _replica_report(row: ReplicaRow, totals: PromptTotals) -> ReplicaReport:
    return ReplicaReport(
        rank=row.rank,
        replica=row.name,
        state=row.state,
        knowledge=row.knowledge,
        waiting=row.waiting,
        running=row.running,
        pending_tokens=row.pending_tokens,
        kv_use=row.kv_use,
        held=row.cached_share,
        ring_share=row.ring_share,
        figures=figures(totals),
    )


def _hit_rates(funnel: Funnel) -> HitRates:
    return HitRates(
        predicted=_ratio(funnel.selected, funnel.offered),
        actual=_ratio(funnel.reused, funnel.offered),
        reachable=_ratio(funnel.reachable, funnel.offered),
        shared=_ratio(funnel.shared_reused, funnel.shared),
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _latency(histogram: Histogram) -> Latency:
    return Latency(
        number=histogram.number,
        mean_s=histogram.mean_s,
        p50_s=histogram.quantile_s(0.5),
        p95_s=histogram.quantile_s(0.95),
    )

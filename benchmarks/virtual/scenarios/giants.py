"""Some documents as large as a good part of a cache: what do they do to all other requests?

The load is the same with giants as the setup says; without them, it is what is left, and all others come when they did.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan
from random import Random

from benchmarks.harness.rows import mean_row
from benchmarks.virtual.scenarios.giant_traffic import GiantTraffic, add_giants
from benchmarks.virtual.several_routers.setup import Setup, simulate
from loadtests.replay.engine import EngineOptions
from loadtests.replay.results import RequestRecord, hit_rate, mean_ttft_s
from loadtests.replay.simulation import Scenario
from loadtests.report.intervals import ratio
from loadtests.report.statistics import percentile

POLICIES = ("prefix_affinity", "least_loaded", "llmd_scraped", "pure_affinity")
"""The first is compared with the others."""
GIANT_SHARES = (0.1, 0.2)
"""Shares of the giants in all prompt tokens."""


@dataclass(frozen=True, slots=True)
class GiantsRow:
    """What one policy reaches, for requests that are no giants unless the name says so."""

    giants_share: str
    policy: str
    hit_rate: float
    hit_rate_ratio: float
    """Ratio to the same requests without giants."""
    mean_ttft_s: float
    mean_ratio: float
    p90_ttft_s: float
    p90_ratio: float
    behind_rate: float
    """How many were sent to where a giant was being computed or waited."""
    giants_hit_rate: float
    giants_ttft_s: float
    giants_p90_s: float
    all_ttft_s: float
    """Mean of giants and others."""
    ours_ratio: float
    """Ratio of our mean TTFT to this policy's, without giants; from sums over the seeds."""
    ours_margin: float
    """Half of the 95 % interval; not a number for one seed."""


def run(setup: Setup) -> Iterator[GiantsRow]:
    """A row for each share and policy, the mean over the seeds."""
    for share in GIANT_SHARES:
        cases = [(scenario, _traffic(scenario, share, load=setup.load)) for scenario in setup.scenarios()]
        ours: list[GiantsRow] = []
        for policy in POLICIES:
            rows = [_row(share, policy, *case) for case in cases]
            ours = ours or rows
            yield mean_row(list(_compared(rows, ours)))


def behind(others: Collection[RequestRecord], giants: Collection[RequestRecord]) -> list[RequestRecord]:
    """Those that came to a replica while a giant was there and had no first token yet."""
    return [
        each
        for each in others
        if any(
            giant.replica_id == each.replica_id and giant.arrival_s < each.arrival_s < giant.first_token_s
            for giant in giants
        )
    ]


def _traffic(scenario: Scenario, share: float, *, load: float) -> GiantTraffic:
    return add_giants(
        scenario.requests,
        tokens_per_s=load * scenario.num_replicas * EngineOptions().prefill_tokens_per_s,
        giant_share=share,
        rng=Random(f"giants {scenario.seed}"),
    )


def _row(share: float, policy: str, scenario: Scenario, traffic: GiantTraffic) -> GiantsRow:
    records = _records(policy, scenario, traffic.requests)
    without = _records(policy, scenario, traffic.ordinary)
    giants = [each for each in records if each.arrival_s in traffic.giant_arrivals_s]
    others = [each for each in records if each.arrival_s not in traffic.giant_arrivals_s]
    return GiantsRow(
        giants_share=f"{share:g}",
        policy=policy,
        hit_rate=hit_rate(others),
        hit_rate_ratio=hit_rate(others) / hit_rate(without),
        mean_ttft_s=mean_ttft_s(others),
        mean_ratio=mean_ttft_s(others) / mean_ttft_s(without),
        p90_ttft_s=_p90_s(others),
        p90_ratio=_p90_s(others) / _p90_s(without),
        behind_rate=len(behind(others, giants)) / len(others),
        giants_hit_rate=hit_rate(giants),
        giants_ttft_s=mean_ttft_s(giants),
        giants_p90_s=_p90_s(giants),
        all_ttft_s=mean_ttft_s(records),
        ours_ratio=nan,
        ours_margin=nan,
    )


def _records(policy: str, scenario: Scenario, requests: Sequence[object]) -> tuple[RequestRecord, ...]:
    return simulate(scenario, requests=requests, num_routers=1, is_asking=False, sample_s=None, policy=policy).records


def _p90_s(records: Collection[RequestRecord]) -> float:
    return percentile([each.ttft_s for each in records], 90)


def _compared(rows: Sequence[GiantsRow], ours: Sequence[GiantsRow]) -> Iterator[GiantsRow]:
    estimate = ratio([each.mean_ttft_s for each in ours], [each.mean_ttft_s for each in rows])
    margin = nan if estimate.margin is None else estimate.margin
    for row in rows:
        yield replace(row, ours_ratio=estimate.value, ours_margin=margin)

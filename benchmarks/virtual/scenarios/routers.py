"""Several routers whose messages are late, against one; and routers that share their load, but not their caches."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import nan

from benchmarks.harness.rows import mean_row
from benchmarks.virtual.several_routers.setup import Setup, simulate
from loadtests.replay.results import summarize
from loadtests.replay.sharing import Sharing
from loadtests.replay.simulation import Scenario

DELAY_S = 0.05
"""The delay of every message, in seconds."""
VARIANTS = ((1, Sharing.ALL), (4, Sharing.ALL), (4, Sharing.LOAD_ONLY), (4, Sharing.NOTHING))
"""The first is what the others are compared with."""


@dataclass(frozen=True, slots=True)
class RoutersRow:
    """What one variant reaches; ratios are to one router."""

    routers: int
    shared: str
    delay_ms: int
    agreement: float
    """Share of the other routers' answers that name the replica which was chosen."""
    hit_rate: float
    hit_rate_ratio: float
    mean_ttft_s: float
    mean_ttft_ratio: float
    p95_ttft_s: float


def run(setup: Setup) -> Iterator[RoutersRow]:
    """A row for each variant, the mean over the seeds."""
    scenarios = tuple(setup.scenarios())
    rows = [mean_row([_row(scenario, *variant) for scenario in scenarios]) for variant in VARIANTS]
    for row in rows:
        yield replace(
            row,
            hit_rate_ratio=row.hit_rate / rows[0].hit_rate,
            mean_ttft_ratio=row.mean_ttft_s / rows[0].mean_ttft_s,
        )


def _row(scenario: Scenario, num_routers: int, sharing: Sharing) -> RoutersRow:
    result = simulate(scenario, num_routers=num_routers, sharing=sharing, delay_s=DELAY_S, sample_s=None)
    summary = summarize(result, num_replicas=scenario.num_replicas)
    return RoutersRow(
        routers=num_routers,
        shared=sharing.value,
        delay_ms=round(DELAY_S * 1000),
        agreement=result.agreement,
        hit_rate=summary.hit_rate,
        hit_rate_ratio=nan,
        mean_ttft_s=summary.mean_ttft_s,
        mean_ttft_ratio=nan,
        p95_ttft_s=summary.p95_ttft_s,
    )

"""One router against several: do they decide as one, and what does each kind of message contribute to that?"""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness.rows import mean_row
from benchmarks.virtual.several_routers.setup import Setup, simulate
from loadtests.replay.results import Replay, summarize
from loadtests.replay.sharing import Sharing
from loadtests.replay.simulation import Scenario

VARIANTS = (
    *((num_routers, Sharing.ALL, delay_s) for delay_s in (0.005, 0.02, 0.1) for num_routers in (1, 2, 4)),
    (2, Sharing.NO_RESERVATIONS, 0.005),
    (4, Sharing.NO_RESERVATIONS, 0.005),
    (2, Sharing.NOTHING, 0.005),
    (4, Sharing.NOTHING, 0.005),
)


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """What one variant reaches."""

    routers: int
    shared: str
    delay_ms: int
    agreement: float
    """Share of the other routers' answers that name the replica which was chosen."""
    hit_rate: float
    mean_ttft_s: float
    p50_ttft_s: float
    p95_ttft_s: float
    prompt_imbalance: float
    computed_imbalance: float


def run(setup: Setup) -> Iterator[AgreementRow]:
    """A row for each variant, the mean over the seeds."""
    scenarios = tuple(setup.scenarios())
    for num_routers, sharing, delay_s in VARIANTS:
        yield mean_row([_row(scenario, num_routers, sharing, delay_s) for scenario in scenarios])


def _row(scenario: Scenario, num_routers: int, sharing: Sharing, delay_s: float) -> AgreementRow:
    result: Replay = simulate(scenario, num_routers=num_routers, sharing=sharing, delay_s=delay_s)
    summary = summarize(result, num_replicas=scenario.num_replicas)
    return AgreementRow(
        routers=num_routers,
        shared=sharing.value,
        delay_ms=round(delay_s * 1000),
        agreement=result.agreement,
        hit_rate=summary.hit_rate,
        mean_ttft_s=summary.mean_ttft_s,
        p50_ttft_s=summary.p50_ttft_s,
        p95_ttft_s=summary.p95_ttft_s,
        prompt_imbalance=summary.prompt_imbalance,
        computed_imbalance=summary.computed_imbalance,
    )

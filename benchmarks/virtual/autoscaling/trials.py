"""One run of each contender, and what came of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.virtual.autoscaling.contenders import Contender
from benchmarks.virtual.autoscaling.traffic import ScalingTraffic, TrafficPhase
from loadtests.replay.engine import EngineOptions
from loadtests.replay.lives import most_replicas, num_changes, replica_seconds
from loadtests.replay.parallel import run_all
from loadtests.replay.results import Replay, hit_rate
from loadtests.replay.scaling import Autoscaling
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.report.statistics import percentile
from serve_app.settings.schema import ReplicaSettings, RouterSettings

SECONDS_PER_HOUR = 3600
HEARTBEAT_S = 2.0
"""Four times as far apart as in production, and a day takes that much less to replay."""
HEARTBEATS_OF_SILENCE = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """What is the same for all contenders."""

    start_s: float
    """Seconds until a new replica serves."""
    first_replicas: int
    max_replicas: int
    upscale_delay_s: float
    downscale_delay_s: float
    ttft_limit_s: float
    engine: EngineOptions

    def autoscaling(self, contender: Contender) -> Autoscaling | None:
        """How a contender scales; None where it does not."""
        common: dict[str, Any] = {
            "min_replicas": 1,
            "max_replicas": self.max_replicas,
            "upscale_delay_s": self.upscale_delay_s,
            "downscale_delay_s": self.downscale_delay_s,
        }
        config = contender.config(common, prefill_tokens_per_s=self.engine.prefill_tokens_per_s)
        return None if config is None else Autoscaling(config, start_s=self.start_s)


@dataclass(frozen=True, slots=True)
class ContenderRow:
    """What one contender reaches in one phase."""

    policy: str
    phase: str
    replicas: float
    """Mean number of replicas that start, serve or finish."""
    most: int
    """The most replicas that serve at the same time."""
    changes: int
    """Times at which replicas joined or left."""
    replica_hours: float
    late_rate: float
    """Share of requests whose first token came after the limit."""
    p50_ttft_s: float
    p95_ttft_s: float
    hit_rate: float
    requests: int


def run(
    make_traffic: Callable[[], ScalingTraffic], contenders: tuple[Contender, ...], rules: Rules, *, num_jobs: int
) -> Iterator[ContenderRow]:
    """A row for each contender and phase; every contender gets the same requests."""
    tried = run_all(partial(_try, make_traffic, rules), contenders, num_jobs=num_jobs, on_done=lambda: None)
    for rows in tried:
        yield from rows


def _try(make_traffic: Callable[[], ScalingTraffic], rules: Rules, contender: Contender) -> list[ContenderRow]:
    traffic, autoscaling = make_traffic(), rules.autoscaling(contender)
    scenario = Scenario(
        traffic.requests,
        num_replicas=int(contender.number) if autoscaling is None else rules.first_replicas,
        num_routers=1,
        seed=1,
        engine=rules.engine,
        replicas=ReplicaSettings(heartbeat_s=HEARTBEAT_S),
        routers=RouterSettings(silence_s=HEARTBEATS_OF_SILENCE * HEARTBEAT_S),
        autoscaling=autoscaling,
        block_size=traffic.block_size,
        is_asking=False,
        sample_s=None,
    )
    result = Simulation(scenario).run()
    return [_row(contender, phase, result, rules) for phase in traffic.phases]


def _row(contender: Contender, phase: TrafficPhase, result: Replay, rules: Rules) -> ContenderRow:
    start_s, end_s = phase.start_s, phase.end_s
    records = result.arrived_within(start_s, end_s)
    paid_s = replica_seconds(result.lives, start_s=start_s, end_s=end_s, starting_s=rules.start_s)
    ttfts_s = [record.ttft_s for record in records]
    return ContenderRow(
        policy=str(contender),
        phase=phase.name,
        replicas=paid_s / (end_s - start_s),
        most=most_replicas(result.lives, start_s=start_s, end_s=end_s),
        changes=num_changes(result.lives, start_s=start_s, end_s=end_s),
        replica_hours=paid_s / SECONDS_PER_HOUR,
        late_rate=sum(ttft_s > rules.ttft_limit_s for ttft_s in ttfts_s) / len(ttfts_s),
        p50_ttft_s=percentile(ttfts_s, 50),
        p95_ttft_s=percentile(ttfts_s, 95),
        hit_rate=hit_rate(records),
        requests=len(records),
    )

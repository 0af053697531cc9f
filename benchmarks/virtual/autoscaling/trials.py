"""One run of each contender, and what came of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.harness.errors import MeasurementError
from benchmarks.virtual.autoscaling.traffic import ScalingTraffic, TrafficPhase
from loadtests.replay.engine import EngineOptions
from loadtests.replay.lives import most_replicas, num_changes, replica_seconds
from loadtests.replay.parallel import run_all
from loadtests.replay.results import Replay, hit_rate
from loadtests.replay.scaling import Autoscaling
from loadtests.replay.simulation import Scenario, Simulation
from loadtests.report.statistics import percentile
from serve_app.settings.schema import AUTOSCALING_POLICY, ReplicaSettings, RouterSettings

SECONDS_PER_HOUR = 3600
HEARTBEAT_S = 2.0
"""Four times as far apart as in production, and a day takes that much less to replay."""
HEARTBEATS_OF_SILENCE = 3


COMMON = {
    "min_replicas": 1,
    "max_replicas": 24,
    "upscale_delay_s": 30.0,
    "downscale_delay_s": 600.0,
    "downscaling_factor": 1.0,
}
"""What all contenders have in common of `autoscaling_config`."""
START_S = 60.0
"""Seconds until a new replica serves."""
FIRST_REPLICAS = 4
"""Replicas at the start, where their number is not fixed."""
TTFT_LIMIT_S = 5.0
"""A later first token is late."""


def _ours(prefill_use: float) -> dict[str, Any]:
    kwargs = {"prefill_tokens_per_s": EngineOptions().prefill_tokens_per_s, "prefill_use": prefill_use}
    return {**COMMON, "policy": {"policy_function": AUTOSCALING_POLICY, "policy_kwargs": kwargs}}


def _serves(target_ongoing_requests: int, downscaling_factor: float) -> dict[str, Any]:
    """Serve's default; the factor is the share of the way down that it goes at a time, at most."""
    return {**COMMON, "target_ongoing_requests": target_ongoing_requests, "downscaling_factor": downscaling_factor}


CONTENDERS: dict[str, dict[str, Any] | int] = {
    "uncached_work:0.6": _ours(0.6),
    "uncached_work:0.7": _ours(0.7),
    "uncached_work:0.8": _ours(0.8),
    "ongoing_requests:4": _serves(4, 1.0),
    "ongoing_requests:4@0.2": _serves(4, 0.2),
    "ongoing_requests:8@0.2": _serves(8, 0.2),
    "fixed:6": 6,
}
"""By name, `autoscaling_config` or a fixed number of replicas."""


def chosen(names: str) -> tuple[str, ...]:
    """Names of contenders, separated by commas.

    Raises:
        MeasurementError: there is no such contender.

    """
    found = tuple(names.split(","))
    for name in found:
        if name not in CONTENDERS:
            raise MeasurementError(f"--policies: there is no {name!r}; use some of {', '.join(CONTENDERS)}")
    return found


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


def run(make_traffic: Callable[[], ScalingTraffic], names: Sequence[str], *, num_jobs: int) -> Iterator[ContenderRow]:
    """A row for each contender and phase; every contender gets the same requests."""
    tried = run_all(partial(_try, make_traffic), names, num_jobs=num_jobs, on_done=lambda: None)
    for rows in tried:
        yield from rows


def _try(make_traffic: Callable[[], ScalingTraffic], name: str) -> list[ContenderRow]:
    traffic, config = make_traffic(), CONTENDERS[name]
    scenario = Scenario(
        traffic.requests,
        num_replicas=config if isinstance(config, int) else FIRST_REPLICAS,
        num_routers=1,
        seed=1,
        replicas=ReplicaSettings(heartbeat_s=HEARTBEAT_S),
        routers=RouterSettings(silence_s=HEARTBEATS_OF_SILENCE * HEARTBEAT_S),
        autoscaling=None if isinstance(config, int) else Autoscaling(config, start_s=START_S),
        block_size=traffic.block_size,
        is_asking=False,
        sample_s=None,
    )
    result = Simulation(scenario).run()
    return [_row(name, phase, result) for phase in traffic.phases]


def _row(name: str, phase: TrafficPhase, result: Replay) -> ContenderRow:
    start_s, end_s = phase.start_s, phase.end_s
    records = result.arrived_within(start_s, end_s)
    paid_s = replica_seconds(result.lives, start_s=start_s, end_s=end_s, starting_s=START_S)
    ttfts_s = [record.ttft_s for record in records]
    return ContenderRow(
        policy=name,
        phase=phase.name,
        replicas=paid_s / (end_s - start_s),
        most=most_replicas(result.lives, start_s=start_s, end_s=end_s),
        changes=num_changes(result.lives, start_s=start_s, end_s=end_s),
        replica_hours=paid_s / SECONDS_PER_HOUR,
        late_rate=sum(ttft_s > TTFT_LIMIT_S for ttft_s in ttfts_s) / len(ttfts_s),
        p50_ttft_s=percentile(ttfts_s, 50),
        p95_ttft_s=percentile(ttfts_s, 95),
        hit_rate=hit_rate(records),
        requests=len(records),
    )

"""Serve's decisions in virtual time, held against Serve's own controller with its clock turned by hand."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.replay.serve_autoscaler import ServeAutoscaler
from router import ReplicaId
from serve_app.autoscaling.stats import ARRIVED_TOKENS, WAITING_TOKENS
from serve_app.settings.schema import AUTOSCALING_POLICY

COMMON: dict[str, Any] = {"min_replicas": 1, "max_replicas": 9, "upscale_delay_s": 20, "downscale_delay_s": 40}
OURS = {"policy_function": AUTOSCALING_POLICY, "policy_kwargs": {"prefill_tokens_per_s": 20}}
CONFIGS = [
    {**COMMON, "target_ongoing_requests": 4},
    {**COMMON, "target_ongoing_requests": 2, "downscaling_factor": 0.3, "upscaling_factor": 0.5},
    {**COMMON, "target_ongoing_requests": 3, "aggregation_function": "max"},
    {**COMMON, "policy": OURS},
]
IDS = ["ongoing", "factors", "max", "ours"]


class Controller:
    """Serve's."""

    def __init__(self, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        from ray.serve._private import autoscaling_state
        from ray.serve._private.common import DeploymentID, ReplicaID, ReplicaMetricReport
        from ray.serve.autoscaling_policy import _apply_delay_logic
        from ray.serve.config import AutoscalingConfig

        self._report, self._replica_id = ReplicaMetricReport, ReplicaID
        self._deployment_id = DeploymentID("llm", "warmroute")
        self._now = 0.0
        self._running: list[Any] = []
        clock = SimpleNamespace(time=lambda: self._now, monotonic=lambda: self._now)
        monkeypatch.setattr(autoscaling_state, "time", clock)
        monkeypatch.setitem(_apply_delay_logic.__globals__, "time", clock)
        self._state = autoscaling_state.DeploymentAutoscalingState(self._deployment_id)
        deployment = SimpleNamespace(autoscaling_config=AutoscalingConfig(**config), gang_scheduling_config=None)
        info = SimpleNamespace(deployment_config=deployment, target_capacity=None, target_capacity_direction=None)
        self._state.register(info, 3)

    def decide(self, reports: dict[ReplicaId, Any], *, num_running: int, target: int, now: float) -> int:
        """The same question."""
        self._now = now
        for replica_id in self._running:  # so that it forgets what those told that are silent now
            self._state.on_replica_stopped(replica_id)
        self._running = [self._replica_id(f"{number}", self._deployment_id) for number in range(num_running)]
        self._state.update_running_replica_ids(self._running)
        for replica_id, metrics in zip(self._running, reports.values(), strict=False):
            lists = {name: list(series) for name, series in metrics.items()}
            self._state.record_request_metrics_for_replica(self._report(replica_id, lists, now))
        return int(self._state.get_decision_num_replicas(target))


def make_report(rng: Random, *, now: float, level: float) -> dict[str, list[Any]]:
    """Of a replica that looked six times."""
    from ray.serve._private.common import RUNNING_REQUESTS_KEY, TimeStampedValue

    start_s = now - 30 - rng.random()
    times_s = [start_s + 6 * number for number in range(6)]
    work = rng.uniform(0, 1000)
    report: dict[str, list[Any]] = {RUNNING_REQUESTS_KEY: [], ARRIVED_TOKENS: [], WAITING_TOKENS: []}
    for time_s in times_s:
        work += level * rng.uniform(50, 150)
        report[RUNNING_REQUESTS_KEY].append(TimeStampedValue(time_s, round(level * rng.uniform(0, 8))))
        report[ARRIVED_TOKENS].append(TimeStampedValue(time_s, work))
        report[WAITING_TOKENS].append(TimeStampedValue(time_s, rng.uniform(0, 100)))
    return report


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_decides_as_serves_controller_does(
    config: dict[str, Any], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through ups and downs, replicas that have told nothing yet included; each decision is followed."""
    rng = Random(seed)
    ours, theirs = ServeAutoscaler(config), Controller(config, monkeypatch)
    target, decided = 3, []
    for step in range(60):
        now = 1_000 + 10.0 * step
        level = (0.2, 3.0, 0.7, 0.05)[step // 15]
        num_telling = max(0, target - (step % 7 == 0))
        reports = {ReplicaId(f"{number}"): make_report(rng, now=now, level=level) for number in range(num_telling)}
        expected = theirs.decide(reports, num_running=target, target=target, now=now)
        target = ours.decide(reports, num_running=target, target=target, now=now)
        assert target == expected, f"at {now}"
        decided.append(target)
    assert min(decided) < 3 < max(decided)


def test_replicas_look_and_tell_as_often_as_serves_do() -> None:
    """A fifth of the time looked back on, and at most every 10 s; told every 10 s."""
    autoscaler = ServeAutoscaler({**COMMON, "look_back_period_s": 30})
    assert (autoscaler.record_s, autoscaler.push_s) == (6, 10)
    assert ServeAutoscaler({**COMMON, "look_back_period_s": 300}).record_s == 10

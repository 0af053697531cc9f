"""Ray Serve's autoscaling in virtual time: its own functions decide, for whatever policy its own configuration names.

Only the clock is ours: Serve's controller reads the system's (`DeploymentAutoscalingState`), so what it does around its
functions is done here, and compared with it in the tests. Ray is imported when there is something to scale, and is not
started.

Adapter: private names of Ray are listed in tests/loadtests/replay/test_private_names.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from router import ReplicaId

MetricSeries = Mapping[str, Sequence[Any]]
"""What a replica has reported last: `TimeStampedValue`s by metric, in order of time."""


class ServeAutoscaler:
    """Decides for one deployment.

    Args:
        config: `autoscaling_config`, as in a settings file.

    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        from ray.serve._private.autoscaling_state import _resolve_policy_callable
        from ray.serve.config import AutoscalingConfig

        self.config = AutoscalingConfig(**config)
        self._policy = _resolve_policy_callable(self.config.policy)
        self._state: dict[str, Any] = {}

    @property
    def record_s(self) -> float:
        """How often a replica looks at its metrics (`ReplicaMetricsManager.start_metrics_pusher`)."""
        from ray.serve._private import constants

        share = constants.RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR
        return float(min(self.config.look_back_period_s * share, self.config.metrics_interval_s))

    @property
    def push_s(self) -> float:
        """How often it tells the controller."""
        return float(self.config.metrics_interval_s)

    @staticmethod
    def points(num_requests: int, metrics: Mapping[str, float], *, now: float) -> dict[str, Any]:
        """What a replica looks at, as Serve keeps it: its own metrics, and how many requests it has."""
        from ray.serve._private.common import RUNNING_REQUESTS_KEY, TimeStampedValue

        named = {RUNNING_REQUESTS_KEY: num_requests, **metrics}
        return {name: TimeStampedValue(now, value) for name, value in named.items()}

    def decide(self, reports: Mapping[ReplicaId, MetricSeries], *, num_running: int, target: int, now: float) -> int:
        """How many replicas there should be from now on.

        Args:
            reports: of the running replicas that have told anything.
            num_running: of replicas that are ready.
            target: what was decided last.
            now: seconds.

        """
        from ray.serve.autoscaling_policy import _apply_delay_logic, _apply_scaling_factors

        context = self._context(reports, num_running=num_running, target=target, now=now)
        desired, own_state = self._policy(context)
        scaled = _apply_scaling_factors(desired, num_running, self.config)
        decided, delay_state = _apply_delay_logic(max(0, scaled), target, self.config, self._state, _now=now)
        self._state = {**own_state, **delay_state}
        return int(min(max(decided, self.config.min_replicas), self.config.max_replicas))

    def _context(self, reports: Mapping[ReplicaId, MetricSeries], *, num_running: int, target: int, now: float) -> Any:  # noqa: ANN401  Ray ships no types
        from ray.serve.config import AutoscalingContext

        return AutoscalingContext(
            deployment_id=None,
            deployment_name="",
            app_name="",
            current_num_replicas=num_running,
            target_num_replicas=target,
            running_replicas=list(reports),
            total_num_requests=lambda: self._num_requests(reports, now=now),
            total_queued_requests=0.0,  # requests come to replicas directly, so no handle of Serve's has any
            aggregated_metrics=None,
            raw_metrics=_by_metric(reports),
            capacity_adjusted_min_replicas=self.config.min_replicas,
            capacity_adjusted_max_replicas=self.config.max_replicas,
            policy_state=dict(self._state),
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=now,
            config=self.config,
        )

    def _num_requests(self, reports: Mapping[ReplicaId, MetricSeries], *, now: float) -> float:
        """The requests of all replicas together, over the time that they looked back on."""
        import numpy as np
        from ray.serve._private.autoscaling_metrics_merge import merge_and_aggregate_arrays
        from ray.serve._private.common import RUNNING_REQUESTS_KEY

        series = [report.get(RUNNING_REQUESTS_KEY, ()) for report in reports.values()]
        points = [point for each in series for point in each]
        return float(
            merge_and_aggregate_arrays(
                np.array([point.timestamp for point in points], dtype=np.float64),
                np.array([point.value for point in points], dtype=np.float64),
                np.cumsum([0, *map(len, series)]),
                now,
                self.config.aggregation_function,
            )
        )


def _by_metric(reports: Mapping[ReplicaId, MetricSeries]) -> dict[str, dict[ReplicaId, Sequence[Any]]]:
    metric_to_series: dict[str, dict[ReplicaId, Sequence[Any]]] = {}
    for replica_id, report in reports.items():
        for name, series in report.items():
            metric_to_series.setdefault(name, {})[replica_id] = series
    return metric_to_series

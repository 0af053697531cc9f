"""The policy as Ray Serve calls it, in its controller, ten times a second.

Serve does the rest for every policy: it averages nothing of `raw_metrics`, but keeps `look_back_period_s` of them;
`upscale_delay_s`, `downscale_delay_s`, the factors and the bounds are applied to what is returned
(`ray.serve.autoscaling_policy._apply_autoscaling_config`).
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from serve_app.autoscaling.policy import ReplicaWork, Targets, wanted_replicas
from serve_app.autoscaling.stats import ARRIVED_TOKENS, KV_USE, WAITING_TOKENS
from serve_app.settings.schema import AutoscalingOptions

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext


class TimedValue(Protocol):
    """A metric at one time, in seconds; Serve's `TimeStampedValue`."""

    timestamp: float
    value: float


Metrics = Mapping[str, Mapping[Any, Sequence[TimedValue]]]
"""Metrics by name and replica, each in order of time."""


class UncachedWorkPolicy:
    """The class for `autoscaling_config.policy.policy_function`; takes `policy_kwargs`."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  checked by the model
        self._targets = Targets(**AutoscalingOptions.model_validate(options).model_dump())

    def __call__(self, context: "AutoscalingContext") -> tuple[int, dict[str, Any]]:
        """How many replicas are wanted, and no state."""
        loads = list(replica_loads(context.raw_metrics or {}))
        return wanted_replicas(loads, self._targets, current=context.target_num_replicas), {}


def replica_loads(metrics: Metrics) -> Iterator[ReplicaWork]:
    """The work of each replica that has said enough; work comes at a rate, which takes two points."""
    for replica_id, arrived in metrics.get(ARRIVED_TOKENS, {}).items():
        if arrived and arrived[-1].timestamp > arrived[0].timestamp:
            waiting = metrics.get(WAITING_TOKENS, {}).get(replica_id, ())
            kv_use = metrics.get(KV_USE, {}).get(replica_id, ())
            yield ReplicaWork(
                arriving_tokens_per_s=_rate(arrived),
                waiting_tokens=waiting[-1].value if waiting else 0.0,
                kv_use=fmean(point.value for point in kv_use) if kv_use else 0.0,
            )


def _rate(points: Sequence[TimedValue]) -> float:
    first, last = points[0], points[-1]
    return (last.value - first.value) / (last.timestamp - first.timestamp)

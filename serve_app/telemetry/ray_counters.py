"""Counters and gauges of Ray's metrics that are exported together.

One `inc` of Ray's costs about 40 us, which is more than a fifth of a routing decision, so amounts are added up here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ray.util import metrics

from serve_app.telemetry.metrics import APPLICATION, Metric

RayMetric = TypeVar("RayMetric", metrics.Counter, metrics.Gauge)

EXPORT_S = 1.0
"""Seconds between two exports."""


_Series = tuple[Metric, tuple[str, ...]]
"""A counter, and the values of its labels."""


class Counters:
    """Counters with closed sets of label values."""

    def __init__(self, application: str) -> None:
        self._application = application
        self._metric_to_counter: dict[Metric, metrics.Counter] = {}
        self._waiting: defaultdict[_Series, float] = defaultdict(float)

    def add(self, metric: Metric, amount: float, labels: Mapping[str, str]) -> None:
        """Add an amount for the next export.

        Raises:
            KeyError: a label of the metric has no value.

        """
        self._waiting[metric, tuple(labels[key] for key in metric.labels)] += amount

    def export(self) -> None:
        """Give Ray what was added since the last time; Ray refuses zeros."""
        waiting, self._waiting = self._waiting, defaultdict(float)
        for (metric, values), amount in waiting.items():
            if amount > 0:
                self._counter(metric).inc(amount, tags=dict(zip(metric.labels, values, strict=True)))

    def _counter(self, metric: Metric) -> metrics.Counter:
        if metric not in self._metric_to_counter:
            self._metric_to_counter[metric] = _make(metrics.Counter, metric, self._application)
        return self._metric_to_counter[metric]


class Levels:
    """Gauges, one value for each set of labels. Ray forgets what is not set again."""

    def __init__(self, metric: Metric, application: str) -> None:
        self._labels = metric.labels
        self._gauge = _make(metrics.Gauge, metric, application)

    def show(self, value: float, *values: str) -> None:
        """Show the value of now, for these values of the labels."""
        self._gauge.set(value, tags=dict(zip(self._labels, values, strict=True)))


class Tally:
    """A gauge that counts for how many each set of labels is true, with closed sets of label values."""

    def __init__(self, metric: Metric, application: str) -> None:
        self._gauge = _make(metrics.Gauge, metric, application)
        self._labels = metric.labels
        self._shown: Counter[tuple[str, ...]] = Counter()

    def show(self, values: Iterable[tuple[str, ...]]) -> None:
        """Show all that there are now, by the labels' values. What is over becomes 0.

        Ray forgets a gauge that is not set again.
        """
        counts = Counter(values)
        for labels in self._shown.keys() | counts.keys():
            self._gauge.set(counts[labels], tags=dict(zip(self._labels, labels, strict=True)))
        self._shown = counts


def _make(kind: type[RayMetric], metric: Metric, application: str) -> RayMetric:
    made = kind(metric.name, description=metric.description, tag_keys=(APPLICATION, *metric.labels))
    made.set_default_tags({APPLICATION: application})
    return made

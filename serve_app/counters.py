"""Counters and gauges of Ray's metrics that are exported together.

One `inc` of Ray's costs about 40 us, which is more than a fifth of a routing decision, so amounts are added up here.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from ray.util import metrics

EXPORT_S = 1.0
"""How often."""


_Series = tuple[str, tuple[str, ...]]
"""A counter's name, and the values of its labels."""


class Counters:
    """Named counters with closed label sets."""

    def __init__(self) -> None:
        self._name_to_counter: dict[str, metrics.Counter] = {}
        self._waiting: defaultdict[_Series, float] = defaultdict(float)

    def declare(self, name: str, description: str, *, labels: tuple[str, ...]) -> None:
        """Before the first `add`."""
        self._name_to_counter[name] = metrics.Counter(name, description=description, tag_keys=labels)

    def add(self, name: str, amount: float, labels: Mapping[str, str]) -> None:
        """For the next export.

        Raises:
            KeyError: this counter, or one of its labels, was not declared.

        """
        tag_keys = self._name_to_counter[name].info["tag_keys"]
        self._waiting[name, tuple(labels[key] for key in tag_keys)] += amount

    def export(self) -> None:
        """Give Ray what was added since the last time; Ray refuses zeros."""
        waiting, self._waiting = self._waiting, defaultdict(float)
        for (name, values), amount in waiting.items():
            if amount > 0:
                counter = self._name_to_counter[name]
                counter.inc(amount, tags=dict(zip(counter.info["tag_keys"], values, strict=True)))


class Tally:
    """A gauge that says of how many each set of labels is true, with a closed label set.

    Args:
        name: the metric's.
        description: for who reads it.
        labels: their names.

    """

    def __init__(self, name: str, description: str, *, labels: tuple[str, ...]) -> None:
        self._gauge = metrics.Gauge(name, description=description, tag_keys=labels)
        self._labels = labels
        self._shown: Counter[tuple[str, ...]] = Counter()

    def show(self, values: Iterable[tuple[str, ...]]) -> None:
        """Everybody there is now, by the labels' values. What is over is 0; Ray forgets a gauge that is not renewed."""
        counts = Counter(values)
        for each in self._shown.keys() | counts.keys():
            self._gauge.set(counts[each], tags=dict(zip(self._labels, each, strict=True)))
        self._shown = counts

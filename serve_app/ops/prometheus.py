"""The history and the replicas' state as Prometheus metrics, made from the same definitions as those of the routers."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector as PrometheusCollector

from router import Loss
from serve_app.messages.prompt_totals import PromptTotals
from serve_app.messages.snapshot import RouterSnapshot
from serve_app.messages.ttft import BOUNDS_S, Histogram
from serve_app.ops.history import Series
from serve_app.telemetry import metrics
from serve_app.telemetry.funnel_report import TOKEN_SUMS
from serve_app.telemetry.metrics import APPLICATION, RANK, TENANT, Metric
from serve_app.telemetry.replica_table import replica_rows

COUNTERS = {
    RANK: (metrics.PROMPTS, metrics.PROMPT_TOKENS, metrics.LOST_TOKENS),
    TENANT: (metrics.TENANT_PROMPTS, metrics.TENANT_PROMPT_TOKENS, metrics.TENANT_LOST_TOKENS),
}
TTFTS = {RANK: metrics.TTFT, TENANT: metrics.TENANT_TTFT}


class OpsMetrics(PrometheusCollector):
    """The metrics of one scrape. Label values come from closed sets."""

    def __init__(
        self,
        application_to_snapshots: Mapping[str, Sequence[RouterSnapshot]],
        series_to_totals: Mapping[Series, PromptTotals],
    ) -> None:
        self._application_to_snapshots = application_to_snapshots
        self._series_to_totals = series_to_totals

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Counters and histograms of all time, and the replicas' state of now."""
        for label in (RANK, TENANT):
            yield from self._counters(label)
            yield self._ttft(label)
        yield from self._gauges()

    def _counters(self, label: str) -> Iterator[CounterMetricFamily]:
        prompts, tokens, lost = map(_counter, COUNTERS[label])
        for application, value, totals in self._labelled(label):
            funnel = totals.funnel
            prompts.add_metric([application, value], funnel.prompts)
            for stage in TOKEN_SUMS:
                tokens.add_metric([application, value, stage], getattr(funnel, stage))
            for cause in Loss:
                lost.add_metric([application, value, cause.value], funnel.lost.get(cause, 0))
        yield from (prompts, tokens, lost)

    def _ttft(self, label: str) -> HistogramMetricFamily:
        metric = TTFTS[label]
        family = HistogramMetricFamily(metric.name, metric.description, labels=[APPLICATION, *metric.labels])
        for application, value, totals in self._labelled(label):
            for kind, histogram in totals.ttft.by_kind():
                family.add_metric([application, value, kind], _buckets(histogram), histogram.sum_s)
        return family

    def _labelled(self, label: str) -> Iterator[tuple[str, str, PromptTotals]]:
        for series, totals in self._series_to_totals.items():
            if series.label == label:
                yield series.application, series.value, totals

    def _gauges(self) -> Iterator[GaugeMetricFamily]:
        pending, kv_use, excluded = map(_gauge, (metrics.PENDING_TOKENS, metrics.KV_USE, metrics.EXCLUDED))
        for application, snapshots in self._application_to_snapshots.items():
            for row in replica_rows(snapshots):
                labels = [application, str(row.rank)]
                pending.add_metric(labels, row.pending_tokens)
                excluded.add_metric(labels, float(row.is_excluded))
                if row.kv_use is not None:
                    kv_use.add_metric(labels, row.kv_use)
        yield from (pending, kv_use, excluded)


def _counter(metric: Metric) -> CounterMetricFamily:
    return CounterMetricFamily(metric.name, metric.description, labels=[APPLICATION, *metric.labels])


def _gauge(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.description, labels=[APPLICATION, *metric.labels])


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Each class together with all before it, as Prometheus wants them."""
    total, buckets = 0, []
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets

"""A comparison as a page."""

from collections.abc import Sequence
from statistics import fmean

from loadtests.replay.estimates import METRICS, PolicyEstimates, bound_estimates, estimates
from loadtests.replay.experiment import Comparison
from loadtests.replay.page import PageChart, Section, render
from loadtests.replay.report_cells import bounds_text, comparison_cells, headline
from loadtests.report.charts import Dot, Series, dot_chart, line_chart

WORDS = (
    ("load", "All prompt tokens a second, before any reuse, over what all replicas together can prefill."),
    ("hit rate", "Cached prompt tokens of all prompt tokens."),
    ("TTFT", "Seconds from a request's arrival to its first token."),
    (
        "good/s, served/s",
        "Requests a second, with a first token in time and all, until the last comes that waits for no answer.",
    ),
    ("imbalance", "Computed tokens of the replica with the most over the mean; over all, and summed over windows."),
    ("copies", "How many replicas hold a block that any holds, by tokens."),
    ("decisions/s", "Of real time, on the machine that made this page."),
    ("±", "Half of the 95 % interval over seeds; of a ratio, of sums paired by seed."),
)


def as_html(comparison: Comparison, *, command: str) -> str:
    """One self-contained page."""
    rows = list(estimates(comparison))
    sections = [_main(comparison, rows)]
    if len(comparison.experiment.loads) > 1:
        sections.append(_sweep(comparison, rows))
    return render(
        title=headline(comparison),
        command=command,
        tables=list(comparison_cells(comparison)),
        legend=[(policy, style) for style, policy in enumerate(comparison.experiment.policies)],
        sections=sections,
        words=WORDS,
    )


def _main(comparison: Comparison, rows: Sequence[PolicyEstimates]) -> Section:
    load = comparison.experiment.loads[0]
    own = [row for row in rows if row.load == load]
    charts = [_hit_rates(comparison, own), _ttft_distribution(comparison, load), _imbalance(comparison, load)]
    return Section(f"Load {load:g}", charts, note=bounds_text(comparison))


def _hit_rates(comparison: Comparison, rows: Sequence[PolicyEstimates]) -> PageChart:
    bounds = next(each for each in bound_estimates(comparison) if each.load == rows[0].load)
    hits = [row.metric_to_mean["hit_rate"] for row in rows]
    dots = [
        Dot(row.policy, hit.value, hit.margin, style) for style, (row, hit) in enumerate(zip(rows, hits, strict=True))
    ]
    marks = [("one pooled LRU", bounds.pooled.value), ("infinite cache", bounds.infinite.value)]
    svg = dot_chart(dots, x_label="hit rate", marks=marks)
    return PageChart("Hit rate and its bounds", svg, "Bars are 95 % intervals over seeds, where there are several.")


def _ttft_distribution(comparison: Comparison, load: float) -> PageChart:
    series = []
    for style, policy in enumerate(comparison.experiment.policies):
        by_seed = [each.ttft_quantiles_s for each in comparison.of(policy, load)]
        points = [(fmean(values), float(percent)) for percent, values in enumerate(zip(*by_seed, strict=True))]
        series.append(Series(policy, points, style))
    svg = line_chart(series, x_label="TTFT, seconds", y_label="% of requests", is_log_x=True)
    return PageChart(
        "Distribution of TTFT", svg, "Share of requests with their first token by then; further left is better."
    )


def _imbalance(comparison: Comparison, load: float) -> PageChart:
    series = [
        Series(
            policy,
            [
                (each.start_s, each.most_tokens / each.mean_tokens)
                for each in comparison.of(policy, load)[0].windows[:-1]
            ],
            style,
        )
        for style, policy in enumerate(comparison.experiment.policies)
    ]
    svg = line_chart(series, x_label="seconds since the start", y_label="most / mean computed tokens")
    return PageChart(
        "Imbalance over time", svg, "Of the first seed, without the last window, in which little is left. 1 is even."
    )


def _sweep(comparison: Comparison, rows: Sequence[PolicyEstimates]) -> Section:
    charts = [
        _over_load(comparison, rows, name, is_log_y=name.endswith("_ttft_s"))
        for name in ("mean_ttft_s", "p90_ttft_s", "hit_rate", "goodput_rps", "served_rps")
    ]
    return Section("Load sweep", charts)


def _over_load(comparison: Comparison, rows: Sequence[PolicyEstimates], name: str, *, is_log_y: bool) -> PageChart:
    metric = next(each for each in METRICS if each.name == name)
    series = [
        Series(
            policy, sorted((row.load, row.metric_to_mean[name].value) for row in rows if row.policy == policy), style
        )
        for style, policy in enumerate(comparison.experiment.policies)
    ]
    svg = line_chart(series, x_label="load", y_label=metric.long_title, is_log_y=is_log_y)
    return PageChart(metric.long_title, svg, "Means over the seeds.")

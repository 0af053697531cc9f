"""A comparison as a page."""

from collections.abc import Sequence
from statistics import fmean

from loadtests.replay.estimates import METRICS, PolicyEstimates, bound_estimates, estimates
from loadtests.replay.experiment import PolicyComparison
from loadtests.replay.report import bounds_text, comparison_tables, headline
from loadtests.report.charts import ChartSeries, line_chart
from loadtests.report.page import Page, PageChart, Section, dots_with_intervals, lines_over_load, styles

SWEPT = ("mean_ttft_s", "p90_ttft_s", "hit_rate", "goodput_rps", "served_rps")
"""The metrics that are drawn over the load."""
WORDS = (
    ("load", "All prompt tokens a second, before any reuse, over what all replicas together can prefill."),
    ("hit rate", "Cached prompt tokens of all prompt tokens."),
    ("TTFT", "Seconds from a request's arrival to its first token."),
    (
        "good/s, served/s",
        "Requests a second, with a first token in time and all, until the last comes that waits for no answer.",
    ),
    ("imbalance", "Computed tokens of the replica with the most over the mean; over all, and summed over windows."),
    ("copies", "How many replicas have cached a block that any has cached, by tokens."),
    ("decisions/s", "Decisions in a second of real time, on the machine that made this page."),
    ("±", "Half of the 95 % interval over seeds; of a ratio, of sums paired by seed."),
)


def as_html(comparison: PolicyComparison, *, command: str) -> str:
    """One self-contained page."""
    rows = list(estimates(comparison))
    sections = [_first_load(comparison, rows)]
    if len(comparison.experiment.loads) > 1:
        sections.append(Section("Load sweep", [_over_load(comparison, rows, name) for name in SWEPT]))
    page = Page(
        title=headline(comparison),
        command=command,
        tables=list(comparison_tables(comparison)),
        legend=styles(comparison.experiment.policies),
        sections=sections,
        words=WORDS,
    )
    return page.as_html()


def _first_load(comparison: PolicyComparison, rows: Sequence[PolicyEstimates]) -> Section:
    load = comparison.experiment.loads[0]
    hit_rates = {row.policy: row.metric_to_mean["hit_rate"] for row in rows if row.load == load}
    bounds = next(iter(bound_estimates(comparison)))
    marks = [("one pooled LRU", bounds.pooled.value), ("infinite cache", bounds.infinite.value)]
    svg = dots_with_intervals("hit rate", hit_rates, comparison.experiment.policies, marks)
    caption = "Bars are 95 % intervals over seeds, where there are several."
    charts = [
        PageChart("Hit rate and its bounds", svg, caption),
        _ttft_distribution(comparison, load),
        _imbalance(comparison, load),
    ]
    return Section(f"Load {load:g}", charts, note=bounds_text(comparison))


def _ttft_distribution(comparison: PolicyComparison, load: float) -> PageChart:
    series = []
    for policy, style in styles(comparison.experiment.policies):
        by_seed = [outcome.ttft_quantiles_s for outcome in comparison.of(policy, load)]
        points = [(fmean(values), float(percent)) for percent, values in enumerate(zip(*by_seed, strict=True))]
        series.append(ChartSeries(policy, points, style))
    svg = line_chart(series, x_label="TTFT, seconds", y_label="% of requests", is_log_x=True)
    return PageChart(
        "Distribution of TTFT", svg, "Share of requests with their first token by then; further left is better."
    )


def _imbalance(comparison: PolicyComparison, load: float) -> PageChart:
    series = []
    for policy, style in styles(comparison.experiment.policies):
        windows = comparison.of(policy, load)[0].windows[:-1]
        points = [(window.start_s, window.most_tokens / window.mean_tokens) for window in windows]
        series.append(ChartSeries(policy, points, style))
    svg = line_chart(series, x_label="seconds since the start", y_label="most / mean computed tokens")
    return PageChart(
        "Imbalance over time", svg, "The first seed, without the last window, in which little is left. 1 is even."
    )


def _over_load(comparison: PolicyComparison, rows: Sequence[PolicyEstimates], name: str) -> PageChart:
    metric = next(metric for metric in METRICS if metric.name == name)
    policy_to_points = {
        policy: [(row.load, row.metric_to_mean[name].value) for row in rows if row.policy == policy]
        for policy in comparison.experiment.policies
    }
    return lines_over_load(metric, policy_to_points, caption="Means over the seeds.")

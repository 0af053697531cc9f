"""The results as a page."""

from math import isfinite

from loadtests.bench.numbers import METRICS, verdict_lines
from loadtests.bench.report import (
    Report,
    banner,
    capacity_cells,
    circumstances,
    knowledge_cells,
    loads_and_values,
    reason_cells,
    workload_cells,
)
from loadtests.replay.page import PageChart, Section, render
from loadtests.report.charts import Dot, Series, dot_chart, line_chart

WORDS = (
    ("load", "The rate at which sessions start, over the rate at which round robin served them in the capacity run."),
    ("hit rate", "Prompt tokens that engines found cached, by their own usage, of all prompt tokens: a ratio of sums."),
    ("TTFT", "Seconds from when a request was due, not from when it was sent, to its first token."),
    ("good/s", "Requests a second whose first token came within the limit, over the time from the first to the last."),
    ("whole answer", "Seconds from when a request was due to its last token."),
    ("knows", "What a routing decides by: text or token ids, what it sent itself, receipts, or KV events."),
    ("failed, 429", "Shares of the requests sent. Times are of complete answers only."),
    ("imbalance", "Computed prompt tokens of the replica with the most over the mean of all replicas; 1 is even."),
    ("±", "Half of the 95 % interval over repetitions; of a ratio, of sums paired by repetition."),
    (
        "verdict",
        (
            "By mean TTFT: ahead or behind if the whole interval of the ratio lies on that side of 1, and the "
            "one ahead does not leave a hundredth more of its requests unanswered."
        ),
    ),
)
CHARTED = ("ttft_mean_s", "ttft_p95_s", "end_to_end_s", "hit_rate", "goodput_rps")


def as_html(report: Report) -> str:
    """One self-contained page."""
    workloads = [each.name for each in report.plan.workloads]
    tables = [cells for workload in workloads for cells in workload_cells(report, workload)]
    return render(
        title=f"{report.ours} against {len(report.plan.routings) - 1} other routings: {', '.join(workloads)}",
        command=report.command,
        tables=[*tables, knowledge_cells(report), capacity_cells(report), reason_cells(report)],
        legend=[(routing, style) for style, routing in enumerate(report.plan.routings)],
        sections=[_section(report, workload) for workload in workloads],
        words=WORDS,
        banner=banner(report),
        lines=[*verdict_lines(report.comparisons()), *circumstances(report)],
    )


def _section(report: Report, workload: str) -> Section:
    charts = [_over_load(report, workload, name) for name in CHARTED]
    charts += [_ratios(report, workload, load) for load in report.plan.loads]
    return Section(workload, charts, note=banner(report))


def _over_load(report: Report, workload: str, name: str) -> PageChart:
    metric = next(each for each in METRICS if each.name == name)
    own = [row for row in report.rows() if row.workload == workload]
    if len(report.plan.loads) == 1:  # a line of one point is none
        estimates = [(row.routing, row.metric_to_mean[name]) for row in own]
        dots = [
            Dot(routing, each.value, each.margin, report.plan.routings.index(routing)) for routing, each in estimates
        ]
        svg = dot_chart([dot for dot in dots if isfinite(dot.value)], x_label=metric.long_title, marks=())
        return PageChart(metric.long_title, svg, "Bars are 95 % intervals over repetitions, where there are several.")
    series = [
        Series(routing, loads_and_values([row for row in own if row.routing == routing], name), style)
        for style, routing in enumerate(report.plan.routings)
    ]
    svg = line_chart(series, x_label="load", y_label=metric.long_title, is_log_y=name.startswith("ttft"))
    return PageChart(metric.long_title, svg, "Means over the repetitions.")


def _ratios(report: Report, workload: str, load: float) -> PageChart:
    compared = [each for each in report.comparisons() if (each.workload, each.load) == (workload, load)]
    dots = [
        Dot(each.other, each.metric_to_ratio["ttft_mean_s"].value, each.metric_to_ratio["ttft_mean_s"].margin, style)
        for each in compared
        for style in (report.plan.routings.index(each.other),)
    ]
    dots = [dot for dot in dots if isfinite(dot.value)]
    svg = dot_chart(dots, x_label=f"mean TTFT, {report.ours} / other", marks=[("equal", 1.0)])
    return PageChart(f"Against each, load {load:g}", svg, "Bars are 95 % intervals; left of 1 ours is faster.")

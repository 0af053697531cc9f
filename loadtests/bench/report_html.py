"""The results as a page."""

from loadtests.bench.numbers import DECIDING, METRICS, verdict_lines
from loadtests.bench.report import BenchReport, banner, circumstances, common_tables, workload_tables
from loadtests.report.page import Page, PageChart, Section, dots_with_intervals, lines_over_load, styles

WORDS = (
    ("load", "The rate at which sessions start, over the rate at which round robin served them in the capacity run."),
    ("hit rate", "Prompt tokens that engines found cached, by their own usage, of all prompt tokens: a ratio of sums."),
    ("TTFT", "Seconds from when a request was due, not from when it was sent, to its first token."),
    ("good/s", "Requests a second whose first token came within the limit, over the time from the first to the last."),
    ("whole answer", "Seconds from when a request was due to its last token."),
    ("knows", "What a routing decides by: text or token ids, what it sent itself, receipts, or KV events."),
    ("failed, 429", "Shares of the requests sent. Times are those of complete answers only."),
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


def as_html(report: BenchReport) -> str:
    """One self-contained page."""
    workloads = [traffic.name for traffic in report.plan.workloads]
    page = Page(
        title=f"{report.ours} against {len(report.plan.routings) - 1} other routings: {', '.join(workloads)}",
        command=report.command,
        tables=[*(table for name in workloads for table in workload_tables(report, name)), *common_tables(report)],
        legend=styles(report.plan.routings),
        sections=[_section(report, workload) for workload in workloads],
        words=WORDS,
        banner=banner(report),
        lines=[*verdict_lines(report.comparisons()), *circumstances(report)],
    )
    return page.as_html()


def _section(report: BenchReport, workload: str) -> Section:
    charts = [_over_load(report, workload, name) for name in CHARTED]
    charts += [_ratios(report, workload, load) for load in report.plan.loads]
    return Section(workload, charts, note=banner(report))


def _over_load(report: BenchReport, workload: str, name: str) -> PageChart:
    metric = next(metric for metric in METRICS if metric.name == name)
    own = [row for row in report.rows() if row.workload == workload]
    if len(report.plan.loads) == 1:  # a line of one point is none
        estimates = {row.routing: row.metric_to_mean[name] for row in own}
        svg = dots_with_intervals(metric.long_title, estimates, report.plan.routings)
        return PageChart(metric.long_title, svg, "Bars are 95 % intervals over repetitions, where there are several.")
    routing_to_points = {
        routing: [(row.load, row.metric_to_mean[name].value) for row in own if row.routing == routing]
        for routing in report.plan.routings
    }
    return lines_over_load(metric, routing_to_points, caption="Means over the repetitions.")


def _ratios(report: BenchReport, workload: str, load: float) -> PageChart:
    here = [row for row in report.comparisons() if (row.workload, row.load) == (workload, load)]
    ratios = {row.other: row.metric_to_ratio[DECIDING] for row in here}
    svg = dots_with_intervals(f"mean TTFT, {report.ours} / other", ratios, report.plan.routings, marks=[("equal", 1.0)])
    return PageChart(f"Against each, load {load:g}", svg, "Bars are 95 % intervals; left of 1 ours is faster.")

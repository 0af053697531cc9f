"""A report as one file: tables and charts, without anything to fetch, in light and dark, on a phone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from jinja2 import Environment, PackageLoader, StrictUndefined

from loadtests.report.charts import ChartSeries, Dot, Point, dot_chart, line_chart
from loadtests.report.columns import MetricColumn
from loadtests.report.intervals import Estimate
from loadtests.report.origin import versions
from loadtests.report.tables import TextTable


@dataclass(frozen=True, slots=True)
class PageChart:
    """An SVG element, and what it shows."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """Charts that belong together."""

    title: str
    charts: Sequence[PageChart]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """The whole report."""

    title: str
    command: str
    tables: Sequence[TextTable]
    legend: Sequence[tuple[str, int]]
    """Names with their styles, which are the same in every chart."""
    sections: Sequence[Section]
    words: Sequence[tuple[str, str]]
    """What terms mean."""
    banner: str = ""
    """What must not be overlooked."""
    lines: Sequence[str] = ()
    """How it was made, and other remarks."""

    def as_html(self) -> str:
        """The page's text."""
        environment = Environment(
            loader=PackageLoader("loadtests.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        return environment.get_template("page.html.jinja").render(page=self, versions=versions())


def styles(names: Sequence[str]) -> list[tuple[str, int]]:
    """A legend in which each name has a style of its own."""
    return [(name, style) for style, name in enumerate(names)]


def lines_over_load(metric: MetricColumn, name_to_points: Mapping[str, Sequence[Point]], *, caption: str) -> PageChart:
    """A metric over the load, with a line for each name; times have a logarithmic axis."""
    series = [ChartSeries(name, sorted(points), style) for style, (name, points) in enumerate(name_to_points.items())]
    svg = line_chart(series, x_label="load", y_label=metric.long_title, is_log_y="ttft" in metric.name)
    return PageChart(metric.long_title, svg, caption)


def dots_with_intervals(
    x_label: str,
    name_to_estimate: Mapping[str, Estimate],
    names: Sequence[str],
    marks: Sequence[tuple[str, float]] = (),
) -> str:
    """An SVG element with a dot for each estimate that is a number, in the style of its position among the names."""
    dots = [
        Dot(name, estimate.value, estimate.margin, names.index(name))
        for name, estimate in name_to_estimate.items()
        if isfinite(estimate.value)
    ]
    return dot_chart(dots, x_label=x_label, marks=marks)

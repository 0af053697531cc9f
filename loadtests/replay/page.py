"""A report as one file: tables and plots, without anything to fetch, in light and dark, on a phone."""

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from loadtests.replay.report_cells import Cells
from loadtests.replay.report_json import versions


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


def render(
    *,
    title: str,
    command: str,
    tables: Sequence[Cells],
    legend: Sequence[tuple[str, int]],
    sections: Sequence[Section],
    words: Sequence[tuple[str, str]],
    banner: str = "",
    lines: Sequence[str] = (),
) -> str:
    """The page. The legend has names with their styles, which hold in every chart; the banner is said loudly, the lines
    follow it.
    """
    environment = Environment(
        loader=PackageLoader("loadtests.replay", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        command=command,
        tables=tables,
        legend=legend,
        sections=sections,
        words=words,
        versions=versions(),
        banner=banner,
        lines=lines,
    )

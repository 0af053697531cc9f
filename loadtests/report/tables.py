"""Tables and lines of counts, in one manner for all measurements."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from loadtests.report.statistics import percentile


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table for the terminal and the page alike: the first column names the row, the others are numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_rich(self) -> Table:
        """The table for a terminal."""
        table = make_table(self.title, left=self.header[:1], right=self.header[1:])
        for row in self.rows:
            table.add_row(*row)
        return table


def make_table(title: str, *, left: Sequence[str], right: Sequence[str]) -> Table:
    """An empty table with columns of text first, then columns of numbers."""
    table = Table(title=title, title_justify="left")
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def counts_text(counts: Mapping[str, int]) -> str:
    """The counts in one line, ordered by name."""
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items()))


def seconds_text(seconds: float | None) -> str:
    """Seconds to the tenth; "never" for None."""
    return "never" if seconds is None else f"{seconds:.1f} s"


def milliseconds_text(values: Iterable[float], percent: int) -> str:
    """A percentile of seconds, in milliseconds; a dash where there is none."""
    known = list(values)
    return f"{percentile(known, percent) * 1000:,.0f}" if known else "-"

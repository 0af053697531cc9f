"""The columns of a comparison: what is measured of each policy, and how it is written."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.report.intervals import Estimate, estimate_text

RATIO_FORMAT = ".3f"


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """One column."""

    name: str
    """The key of its estimates, in a report's file too."""
    title: str
    """The short title, for a table."""
    long_title: str
    """The title of a chart, with the unit."""
    format: str
    has_ratio: bool = False
    """Whether policies are compared by it."""

    def text(self, estimates: Mapping[str, Estimate]) -> str:
        """The cell of a table."""
        return estimate_text(estimates[self.name], self.format)

    def ratio_text(self, ratios: Mapping[str, Estimate]) -> str:
        """The cell of a table of ratios."""
        return estimate_text(ratios[self.name], RATIO_FORMAT)

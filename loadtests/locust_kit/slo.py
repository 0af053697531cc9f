"""What a run has to show, and what it did not. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtests.locust_kit.totals import Totals
from loadtests.report.statistics import percentile


@dataclass(frozen=True, slots=True)
class Slo:
    """A percentile of a row's times must not be above a limit."""

    row: str
    percentile: int
    limit_ms: float

    def fault(self, totals: Totals) -> str | None:
        """Why it was missed; None if it was met. Without a sample nothing was shown, which is missed too."""
        wanted = f"p{self.percentile} at most {self.limit_ms:g} ms"
        times_s = totals.row_to_times_s.get(self.row)
        if not times_s:
            return f"{self.row}: no sample, {wanted} was wanted"
        value_ms = percentile(times_s, self.percentile) * 1000
        if value_ms <= self.limit_ms:
            return None
        return f"{self.row}: p{self.percentile} is {value_ms:.1f} ms of {len(times_s):,} requests, {wanted} was wanted"


def faults(totals: Totals, slos: Sequence[Slo], *, max_error_share: float) -> list[str]:
    """Everything for which a run has failed."""
    return list(_faults(totals, slos, max_error_share))


def _faults(totals: Totals, slos: Sequence[Slo], max_error_share: float) -> Iterator[str]:
    yield from sorted(totals.problems)
    if not totals.num_complete:
        yield "no request was answered"
    if totals.error_share > max_error_share:
        failed = ", ".join(f"{name}: {count}" for name, count in sorted(totals.failure_to_count.items()))
        yield f"errors: {totals.error_share:.2%} of the requests ({failed}), at most {max_error_share:.2%} was wanted"
    yield from (fault for slo in slos if (fault := slo.fault(totals)) is not None)

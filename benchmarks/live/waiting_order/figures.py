"""What is told of a run: how long first tokens took, of all prompts, of the shortest and of the longest. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from statistics import fmean
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks.harness.errors import MeasurementError
from loadtests.report.statistics import percentile
from loadtests.report.tables import make_table


class TimedAnswer(NamedTuple):
    """The answer to one prompt."""

    prompt_tokens: int
    ttft_s: float


@dataclass(frozen=True, slots=True)
class TtftFigures:
    """Seconds until the first token."""

    mean_s: float
    median_s: float
    p99_s: float
    longest_s: float
    shortest_fifth_s: float
    """Mean of the fifth of the answers whose prompts are shortest."""
    longest_fifth_s: float


Row = tuple[str, str, TtftFigures]
"""Load, order, and the figures of the runs with them."""
COLUMNS = ("mean", "p50", "p99", "longest wait", "shortest fifth", "longest fifth")


def figures(answers: Sequence[TimedAnswer]) -> TtftFigures:
    """The figures of one run.

    Raises:
        MeasurementError: there are fewer than five answers.

    """
    num_fifth = len(answers) // 5
    if not num_fifth:
        raise MeasurementError(f"{len(answers)} answers have no fifths: measure more")
    ttfts_s = [answer.ttft_s for answer in answers]
    by_length = [answer.ttft_s for answer in sorted(answers, key=lambda answer: answer.prompt_tokens)]
    return TtftFigures(
        mean_s=fmean(ttfts_s),
        median_s=percentile(ttfts_s, 50),
        p99_s=percentile(ttfts_s, 99),
        longest_s=max(ttfts_s),
        shortest_fifth_s=fmean(by_length[:num_fifth]),
        longest_fifth_s=fmean(by_length[-num_fifth:]),
    )


def mean_of(runs: Sequence[TtftFigures]) -> TtftFigures:
    """The mean of each figure over equal runs."""
    return TtftFigures(*(fmean(values) for values in zip(*map(astuple, runs), strict=True)))


def table(rows: Sequence[Row]) -> Table:
    """Load, order, and the figures in seconds."""
    shown = make_table("Seconds until the first token", left=("load", "order"), right=COLUMNS)
    for load, order, run in rows:
        shown.add_row(load, order, *(f"{value:.2f}" for value in astuple(run)))
    return shown


def records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same in full precision."""
    return [{"load": load, "order": order, **asdict(run)} for load, order, run in rows]

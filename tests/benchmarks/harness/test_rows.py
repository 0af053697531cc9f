"""Rows to tables."""

from dataclasses import dataclass

import pytest
from rich.console import Console

from benchmarks.harness.rows import as_table, mean_row, rows_report


@dataclass(frozen=True)
class Row:
    """With each kind of column."""

    name: str
    routers: int
    hit_rate: float
    ttft_change_s: float
    drift_tokens: float


ROW = Row("a", 2, 0.12344, 0.256, 1234567.0)


def test_the_mean_of_rows_keeps_their_labels() -> None:
    """Numbers are averaged; rows that say different things have no mean."""
    assert mean_row([ROW, Row("a", 2, 0.5, -0.256, 0.0)]) == Row("a", 2, 0.31172, 0, 617283.5)
    with pytest.raises(AssertionError, match="rows of different routers"):
        mean_row([ROW, Row("a", 3, 0, 0, 0)])


def test_columns_are_named_and_formatted_by_their_fields() -> None:
    """Rates to four places, changes with their sign, tokens in groups of three digits."""
    console = Console(width=100)
    with console.capture() as capture:
        console.print(as_table("agreement: a trace", [ROW]))
    for text in ("agreement: a trace", "ttft change s", " a ", "0.1234 ", "+0.26", "1,234,567"):
        assert text in capture.get()


def test_json_keeps_full_precision() -> None:
    """With the table's title."""
    report = rows_report([("t", lambda: [ROW])], caveats=())
    assert report.records["tables"][0]["title"] == "t"
    assert report.records["tables"][0]["rows"][0] == {
        "name": "a",
        "routers": 2,
        "hit_rate": 0.12344,
        "ttft_change_s": 0.256,
        "drift_tokens": 1234567.0,
    }

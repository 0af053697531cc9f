"""A report as text, as JSON, and as a page of Markdown."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.claims import CLAIMS
from benchmarks.harness import report as reports
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.report import Report, Verdict, document, markdown_page, print_report
from loadtests.report.tables import make_table

TABLE = make_table("Times", left=("what",), right=("p50\nms",))
TABLE.add_row("a | b [bold]now[/bold]", "1.5")
REPORT = Report([TABLE], {"rows": [1.5]}, faults=[], lines=["3 requests [2 asked]"], caveats=["On one machine."])
FAILED = replace(REPORT, faults=["it was late", "[x] it was wrong"])


def printed(report: Report) -> str:
    """As text."""
    console = Console(width=120, file=StringIO())
    with console.capture() as text:
        print_report(report, console)
    return text.get()


@pytest.mark.parametrize(
    ("report", "verdict", "lines"),
    [
        (REPORT, Verdict.PASS, ["PASS"]),
        (FAILED, Verdict.FAIL, ["FAIL: it was late", "FAIL: [x] it was wrong"]),
        (replace(REPORT, faults=None), None, []),
    ],
)
def test_a_report_is_judged_by_its_faults(report: Report, verdict: Verdict | None, lines: list[str]) -> None:
    """Without a judgement there is no verdict; square brackets in a text are no markup."""
    assert report.verdict is verdict
    assert printed(report).splitlines()[-len(lines) - 2 :] == ["3 requests [2 asked]", "On one machine.", *lines]


def test_the_document_says_how_it_came_about() -> None:
    """With every record, and the verdict."""
    found = document(FAILED)
    assert found["rows"] == [1.5]
    assert (found["verdict"], found["faults"]) == ("FAIL", ["it was late", "[x] it was wrong"])
    assert {"command", "machine", "versions", "date"} <= found.keys()


def test_the_page_has_all_that_a_reader_needs_to_repeat_it() -> None:
    """Claim, command, machine, versions, date, tables, verdict and caveats."""
    page = markdown_page(REPORT, CLAIMS["decision_time"])
    assert page.startswith(f"# decision_time: {CLAIMS['decision_time'].asks}\n")
    for part in (
        "| command | `",
        "| versions | python 3.",
        "| date | 20",
        "Times\n\n| what | p50 ms |\n|---|---:|\n| a \\| b now | 1.5 |",
        "3 requests [2 asked]",
        "**PASS**",
        "## Caveats\n\n- On one machine.",
    ):
        assert part in page


def test_a_machine_that_cannot_be_named_costs_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason stands in its place."""

    def fail() -> None:
        raise MeasurementError("nvidia-smi says nothing of GPU 0")

    monkeypatch.setattr(reports, "find_machine", fail)
    assert document(REPORT)["machine"] == "nvidia-smi says nothing of GPU 0"

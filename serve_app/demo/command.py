"""Puts the demo together: plan, run with a progress bar, print."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serve_app.control.running_application import ApplicationError, RunningApplication
from serve_app.control.serve_api import ServeApiError
from serve_app.demo import report
from serve_app.demo.conversations import OWN_WORKLOAD, WorkloadError, load_conversations, load_tools
from serve_app.demo.driver import DriveError
from serve_app.demo.experiment import ExperimentError, PolicyExperiment
from serve_app.local.cluster import LocalRun

FAILURES = (WorkloadError, DriveError, ExperimentError, ApplicationError, ServeApiError)


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What the command line asks for."""

    texts: Path | None
    tools: Path | None
    sessions: int | None
    concurrency: int
    repetitions: int
    max_tokens: int
    policies: Sequence[str]


def compare(plan: DemoPlan, run: LocalRun, console: Console, json_file: Path | None) -> None:
    """Run the comparison and print its table.

    Raises:
        FAILURES: with a message for the user.

    """
    conversations = load_conversations(
        plan.texts or OWN_WORKLOAD, tools=load_tools(plan.tools) if plan.tools else None, limit=plan.sessions
    )
    with RunningApplication(run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url) as running:
        experiment = PolicyExperiment(
            conversations,
            policies=plan.policies,
            repetitions=plan.repetitions,
            concurrency=plan.concurrency,
            max_tokens=plan.max_tokens,
            url=run.url,
            model=run.model,
            application=running,
            note=run.note,
        )
        console.print(
            f"{len(conversations)} conversations, {experiment.num_requests} requests a run, {plan.repetitions} runs "
            f"of each of {', '.join(plan.policies)}"
        )
        _run(experiment, console)
        console.print(report.table(experiment))
        for line in report.lines(experiment):
            console.print(line)
        if json_file is not None:
            json_file.write_text(json.dumps(report.as_json(experiment)))


def _run(experiment: PolicyExperiment, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        total = experiment.num_requests * experiment.repetitions * len(experiment.policies)
        task = progress.add_task("reading the prompts", total=total)
        experiment.run(
            on_run=lambda title: progress.update(task, description=title), on_done=lambda: progress.advance(task)
        )

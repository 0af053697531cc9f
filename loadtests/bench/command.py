"""`warmroute bench`. Thin: parse, run, print."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtests.bench import cluster, report_html
from loadtests.bench.driver import OnDone
from loadtests.bench.experiment import BenchExperiment, CapacityError
from loadtests.bench.numbers import verdict_lines
from loadtests.bench.options import read_routings, read_workloads
from loadtests.bench.plan import BenchPlan
from loadtests.bench.records import Capacity, CellResult, Results
from loadtests.bench.report import BenchReport, as_json, banner, circumstances, common_tables, workload_tables
from loadtests.bench.traffic import read_traffic
from loadtests.replay.options import read_numbers
from loadtests.report.console import at_least, check_output, fail, make_console
from loadtests.report.origin import command_line
from loadtests.workloads import TextsError
from serve_app.control.running_application import ApplicationError
from serve_app.control.serve_api import ServeApiError
from serve_app.local.cluster import StartError
from serve_app.settings.load import SettingsError, load_settings
from serve_app.settings.schema import Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
FAILURES = (StartError, SettingsError, ServeApiError, ApplicationError, CapacityError, TextsError, ValueError)
DEFAULT_ROUTINGS = (
    "prefix_affinity",
    "round_robin",
    "power_of_two",
    "least_loaded",
    "ray_prefix",
    "ray_consistent_hash",
)


@app.command()
def bench(  # noqa: PLR0913  one for each option
    config: Annotated[Path, typer.Argument(help="A settings file; see configs/.")],
    *,
    workload: Annotated[
        list[str] | None, typer.Option(help="A workload; may be repeated. one_shot is always added.")
    ] = None,
    routing: Annotated[
        list[str] | None, typer.Option(help="One of our policies, or of Ray's routers; may be repeated.")
    ] = None,
    loads: Annotated[
        str, typer.Option(help="Loads, separated by commas; 1 is what round robin serves.")
    ] = "0.5,0.8,1.2",
    repetitions: Annotated[
        int, typer.Option(callback=at_least(1), help="Repetitions of every cell, with other sessions.")
    ] = 5,
    requests: Annotated[
        int, typer.Option(callback=at_least(1), help="Requests of a cell, at least, in as many sessions as make them.")
    ] = 100,
    think_scale: Annotated[
        float, typer.Option(callback=at_least(0), help="A factor on the users' pauses between turns.")
    ] = 0.02,
    answer_scale: Annotated[
        float,
        typer.Option(
            callback=at_least(0.001), help="A factor on the long answers of reasoning and mixed, for slow engines."
        ),
    ] = 1.0,
    ttft_slo_ms: Annotated[
        float, typer.Option(callback=at_least(0), help="Milliseconds; a later first token is not good.")
    ] = 1000.0,
    capacity_s: Annotated[
        float, typer.Option(callback=at_least(0.01), help="Seconds for which each workload's capacity is measured.")
    ] = 60.0,
    replicas: Annotated[
        int | None,
        typer.Option(callback=at_least(1), help="Replicas of each application, instead of the settings' number."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sessions, arrivals and order.")] = 1,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a report with charts to this file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every record to this file.")] = None,
) -> None:
    """Compare routings on a cluster of their own: the same sessions through each in turn, caches reset between."""
    try:
        check_output("--json", json_file)
        check_output("--html", html_file)
        plan = BenchPlan(
            workloads=read_traffic(read_workloads(workload or ["chat"])),
            loads=read_numbers("--loads", loads),
            routings=read_routings(routing or DEFAULT_ROUTINGS),
            repetitions=repetitions,
            num_requests=requests,
            seed=seed,
            think_scale=think_scale,
            answer_scale=answer_scale,
            ttft_slo_s=ttft_slo_ms / 1000,
            capacity_s=capacity_s,
        )
        settings = _settings(config, replicas)

        def save(results: Results) -> BenchReport:
            report = BenchReport(plan, settings, results, command_line())
            if json_file is not None:
                json_file.write_text(as_json(report))
            if html_file is not None:
                html_file.write_text(report_html.as_html(report))
            return report

        results = _run(plan, settings, save)
    except FAILURES as error:
        fail(str(error))
    if not results.cells:
        fail("nothing was measured before the end was asked for")
    _print(save(results))
    if results.ended_early:
        fail(f"ended after {len(results.cells)} of {plan.num_cells} cells: {results.ended_early}")


def _settings(config: Path, replicas: int | None) -> Settings:
    settings = load_settings(config)
    if replicas is None:
        return settings
    deployment = {**settings.llm.get("deployment_config", {}), "num_replicas": replicas}
    deployment.pop("autoscaling_config", None)
    return settings.model_copy(update={"llm": {**settings.llm, "deployment_config": deployment}})


def _run(plan: BenchPlan, settings: Settings, save: Callable[[Results], object]) -> Results:
    """Whatever ends it early, what was measured until then is reported; and saved after each repetition."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    capacities: dict[str, Capacity] = {}
    cells: list[CellResult] = []
    engine = ended_early = ""
    try:
        with cluster.running(settings, plan.routings, console) as running:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has set one of its own
            engine = running.engine()
            experiment = BenchExperiment(plan, running)
            with _Progress(console, total=len(plan.workloads) + plan.num_cells) as progress:
                for traffic in plan.workloads:
                    with progress.step(f"capacity, {traffic.name}") as on_done:
                        capacities[traffic.name] = experiment.measure_capacity(traffic.name, on_done=on_done)
                for cell in plan.cells():
                    if cells and cell.repetition > cells[-1].cell.repetition:
                        save(Results(list(capacities.values()), cells, engine, "still running"))
                    title = f"{cell.workload}, load {cell.load:g}, {cell.routing}, repetition {cell.repetition + 1}"
                    with progress.step(title) as on_done:
                        cells.append(experiment.measure(cell, capacities[cell.workload], on_done=on_done))
    except KeyboardInterrupt:
        ended_early = "interrupted"
    except FAILURES as error:
        if not cells:
            raise
        ended_early = str(error)
    return Results(list(capacities.values()), cells, engine, ended_early)


class _Progress:
    """A bar in a terminal, a line for each step elsewhere."""

    def __init__(self, console: Console, *, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._console = console
        self._total = total
        self._num_done = 0
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @contextmanager
    def step(self, title: str) -> Iterator[OnDone]:
        """Yields what is to be called after every request."""
        began_s, num_requests = time.monotonic(), 0

        def on_done(_: object) -> None:
            nonlocal num_requests
            num_requests += 1
            self._bar.update(self._task, description=f"{title}, request {num_requests}")

        self._bar.update(self._task, description=title)
        yield on_done
        self._bar.advance(self._task)
        self._num_done += 1
        if not self._console.is_terminal:
            seconds = time.monotonic() - began_s
            self._console.print(f"{self._num_done}/{self._total} {title}: {num_requests} requests in {seconds:.1f} s")


def _print(report: BenchReport) -> None:
    console = make_console()
    if banner(report):
        console.print(banner(report), style="bold")
    for traffic in report.plan.workloads:
        for table in workload_tables(report, traffic.name):
            console.print(table.as_rich())
    for table in common_tables(report):
        console.print(table.as_rich())
    for line in (*verdict_lines(report.comparisons()), *circumstances(report)):
        console.print(line)

"""The `warmroute` command line. Thin: parse, call, print; every failure is one clear sentence."""

import json
import signal
import threading
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import httpx
import typer
import yaml
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from router.policies import POLICY_NAMES
from serve_app import extras
from serve_app.control.serve_api import ServeApi, ServeApiError
from serve_app.control.serve_config import ROUTER_DEPLOYMENT, serve_config
from serve_app.settings.load import SettingsError, load_settings
from serve_app.settings.schema import HttpSettings, PolicyName, Settings

if TYPE_CHECKING:
    from serve_app.local.cluster import Run


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  a class that Typer keeps to itself; whatever a command returns
        """A command whose packages are not installed fails in a sentence, too."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            sentence = extras.remedy(error)
            if sentence is None:
                raise
            _fail(sentence)


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 110  # tables in a log file need no narrow terminal's width

POLICIES = ", ".join(POLICY_NAMES)
ConfigArgument = Annotated[Path, typer.Argument(help="A settings file; see configs/.")]
DashboardOption = Annotated[
    str | None, typer.Option("--dashboard", help="Ray dashboard's URL; default: the cluster that `serve` started here.")
]
ApplicationOption = Annotated[str | None, typer.Option(help="Serve application; default: the local one.")]
PASSED_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""For commands with a command line of their own, which is loaded when it is needed."""


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer's way
    if wanted:
        typer.echo(f"warmroute {version('warmroute')}")
        raise typer.Exit


@app.callback()
def main(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Prompt caching for self-hosted LLMs: each request goes to the replica that most likely has its prefix cached."""


@app.command()
def serve(config: ConfigArgument) -> None:
    """Start a local Ray cluster, deploy CONFIG, and stay until Ctrl-C or `warmroute stop`."""
    from serve_app.local import cluster as local_cluster
    from serve_app.local import server as local_server

    settings = _load(config)
    stopped = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stopped.set())
    try:
        with local_server.running(settings, console, stopped):
            stopped.wait()
    except (local_cluster.StartError, ServeApiError) as error:
        _fail(str(error))


@app.command()
def stop() -> None:
    """Stop the cluster that `serve` started here: exactly its processes, no other Ray."""
    from serve_app.local import cluster as local_cluster

    run = _noted_run()
    if run is None:
        console.print("Nothing to stop: no cluster was started from this folder.")
        return
    with console.status("Stopping"):
        local_cluster.stop(run)
    console.print("Stopped.")


@app.command()
def policy(
    name: Annotated[PolicyName, typer.Argument(help="The policy that shall steer from now on.")],
    application: ApplicationOption = None,
    dashboard: DashboardOption = None,
) -> None:
    """Change the routing policy of a running application; no replica restarts."""
    _change_routing({"policy": name}, application, dashboard)
    console.print(f"Routing by {name} within a second.")


@app.command()
def shadow(
    names: Annotated[list[str] | None, typer.Argument(help=f"Some of {POLICIES}.")] = None,
    application: ApplicationOption = None,
    dashboard: DashboardOption = None,
) -> None:
    """Let other policies decide beside the live one, and count what they would have cost; without NAMES, none."""
    shadows = list(dict.fromkeys(names or ()))
    _check_policies("the policy", shadows)
    _change_routing({"shadow_policies": shadows}, application, dashboard)
    console.print(f"In the live policy's shadow within a second: {', '.join(shadows) or 'nobody'}.")


@app.command()
def funnel() -> None:
    """Print where prompt tokens went since the routers of the running server started: reused, or lost to what."""
    from serve_app.control.running_application import ApplicationError, RunningApplication
    from serve_app.telemetry import funnel_report

    run = _local_run()
    try:
        with RunningApplication(
            run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url
        ) as running:
            routers = running.routers()
    except (ApplicationError, ServeApiError) as error:
        _fail(str(error))
    rank_to_funnel, tenant_to_funnel = funnel_report.by_rank(routers), funnel_report.by_tenant(routers)
    console.print(funnel_report.table(funnel_report.add_up(rank_to_funnel.values()), note=run.note))
    console.print(funnel_report.comparison("replica", rank_to_funnel))
    if tenant_to_funnel:
        console.print(funnel_report.comparison("tenant", tenant_to_funnel))


@app.command()
def top(
    *,
    window: Annotated[float, typer.Option(min=1, help="Seconds over which prompts are counted.")] = 60,
    once: Annotated[bool, typer.Option("--once", help="Print it once, of all since the routers started.")] = False,
) -> None:
    """Show the running server's replicas, live: load, memory, and the hit rate predicted and actual."""
    from serve_app.control.running_application import ApplicationError, RunningApplication
    from serve_app.telemetry import replica_view as view

    run = _local_run()
    try:
        with RunningApplication(
            run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url
        ) as running:
            if once:
                snapshots = running.routers()
                console.print(view.table(view.replicas(snapshots), seconds=None, note=run.note))
                console.print(view.routing_line(snapshots))
            else:
                view.watch(running.routers, console, window_s=window, note=run.note)
    except (ApplicationError, ServeApiError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        return


@app.command()
def demo(
    texts: Annotated[Path | None, typer.Option(help="Conversations, OpenAI messages as JSON Lines (.zst too).")] = None,
    tools: Annotated[Path | None, typer.Option(help="Tool definitions for all of them, a JSON array.")] = None,
    sessions: Annotated[int | None, typer.Option(min=1, help="Use only the first so many conversations.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Conversations at a time.")] = 8,
    repetitions: Annotated[int, typer.Option(min=1, help="Runs of each policy.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 8,
    policies: Annotated[list[str] | None, typer.Option("--policy", help=f"Two or more of {POLICIES}.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every measurement here.")] = None,
) -> None:
    """Compare policies on the running server: the same conversations through each in turn, caches reset between."""
    from serve_app.demo import main

    _check_policies("--policy", policies or ())
    run = _local_run()
    plan = main.Plan(
        texts=texts,
        tools=tools,
        sessions=sessions,
        concurrency=concurrency,
        repetitions=repetitions,
        max_tokens=max_tokens,
        policies=policies or ["round_robin", "prefix_affinity"],
    )
    try:
        main.compare(plan, run, console, json_file)
    except main.FAILURES as error:
        _fail(str(error))


@app.command()
def calibrate(
    *,
    url: Annotated[str | None, typer.Option(help="A replica's own address; default: the local cluster's.")] = None,
    replica: Annotated[str | None, typer.Option(help="The short id of one of the local cluster's replicas.")] = None,
    longest: Annotated[
        int, typer.Option(min=64, help="Tokens of the longest prompt; it shall fit in one step.")
    ] = 2048,
    streams: Annotated[int, typer.Option(min=4, help="At most so many answers at a time.")] = 16,
    repetitions: Annotated[int, typer.Option(min=1, help="Of each measurement; the median counts.")] = 5,
) -> None:
    """Measure how long the steps of an idle replica take; print it as settings (engine_model)."""
    from serve_app.calibration import main

    run = None if url else _noted_run()
    plan = main.Plan(longest=longest, streams=streams, repetitions=repetitions)
    try:
        main.calibrate(plan, run, console, url=url, replica=replica)
    except main.FAILURES as error:
        _fail(str(error))


@app.command()
def doctor(
    *,
    application: ApplicationOption = None,
    url: Annotated[str | None, typer.Option(help="Where clients connect; needed with --dashboard.")] = None,
    dashboard: DashboardOption = None,
    ray_address: Annotated[str | None, typer.Option(help="Ray's address; `auto` on the cluster's own nodes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a running application and its cluster: a line for each check; status 1 if one fails."""
    from serve_app.doctor import main, report
    from serve_app.doctor.finding import Status
    from serve_app.doctor.target import TargetError, find_target

    run = _noted_run()
    try:
        target = find_target(run, application=application, url=url, dashboard_url=dashboard, ray_address=ray_address)
    except TargetError as error:
        _fail(str(error))
    with console.status("Examining"):
        findings = main.examine(target)
    if as_json:
        typer.echo(report.as_json(findings))
    else:
        for finding in findings:
            console.print(report.line(finding))
    if any(finding.status is Status.FAILED for finding in findings):
        raise typer.Exit(1)


@app.command()
def check(config: ConfigArgument) -> None:
    """Validate CONFIG, the part for Ray Serve LLM and vLLM included."""
    from serve_app.settings import vllm_options

    settings = _load(config)
    try:
        vllm_options.parse(settings.llm)
    except SettingsError as error:
        _fail(f"{config} cannot be used:\n{error}")
    console.print(f"{config} is valid.")


@app.command("serve-config")
def print_serve_config(config: ConfigArgument) -> None:
    """Print CONFIG as Ray Serve's declarative config, for `serve deploy` or a RayService."""
    typer.echo(yaml.safe_dump(serve_config(_load(config)), sort_keys=False), nl=False)


@app.command()
def kubernetes(config: ConfigArgument) -> None:
    """Write beside CONFIG what a kustomize overlay takes from it: serve-config.yaml and data-path.env."""
    from serve_app.control.kubernetes import write_overlay_files

    try:
        for path in write_overlay_files(_load(config), config):
            console.print(f"{path} written.")
    except OSError as error:
        _fail(f"cannot write beside {config}: {error.strerror}")


@app.command()
def ready(
    url: Annotated[str, typer.Option(help="The proxy on this node.")] = f"http://127.0.0.1:{HttpSettings().port}",
    mark: Annotated[Path, typer.Option(help="A file that remembers the first answer.")] = Path("/tmp/warmroute-ready"),  # noqa: S108
    any_answer: Annotated[  # noqa: FBT002  typer's way
        bool, typer.Option("--any-answer", help="Routed or not: with `replicas.explain_headers: off`, none says so.")
    ] = False,
) -> None:
    """Say whether this node serves, for a readiness probe: status 0 from its first routed answer on."""
    from serve_app.control.readiness import TIMEOUT_S, NotReadyError, check_readiness

    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S) as client:
            check_readiness(client, mark, any_answer=any_answer)
    except NotReadyError as error:
        _fail(str(error))
    console.print("ready")


@app.command()
def grafana() -> None:
    """Print a Grafana dashboard of Warmroute's metrics, as JSON to import."""
    from serve_app.telemetry.dashboard import dashboard

    typer.echo(json.dumps(dashboard(), indent=2))


@app.command()
def alerts() -> None:
    """Print Prometheus alert rules on Warmroute's metrics, as a rule file."""
    from serve_app.telemetry.alerts import rules

    typer.echo(yaml.safe_dump(rules(), sort_keys=False, width=120), nl=False)


@app.command(context_settings=PASSED_ON, add_help_option=False)
def replay(context: typer.Context) -> None:
    """Compare policies by replaying a request trace in virtual time; no GPU, no server. `replay --help` says more."""
    from loadtests.replay.command import app as replay_app

    replay_app(context.args, prog_name=context.command_path)


@app.command(context_settings=PASSED_ON, add_help_option=False)
def plan(context: typer.Context) -> None:
    """How many replicas, of which KV size, meet a TTFT target, by replaying a trace. `plan --help` says more."""
    from loadtests.replay.plan_command import app as plan_app

    plan_app(context.args, prog_name=context.command_path)


@app.command(context_settings=PASSED_ON, add_help_option=False)
def bench(context: typer.Context) -> None:
    """Compare routings, Ray's own among them, on a cluster started for it, over loads. `bench --help` says more."""
    from loadtests.bench.command import app as bench_app

    bench_app(context.args, prog_name=context.command_path)


@app.command(context_settings=PASSED_ON, add_help_option=False)
def audit(context: typer.Context) -> None:
    """Say why the prompts of a log do not share their beginnings, and what it costs. `audit --help` says more."""
    from serve_app.audit.command import app as audit_app

    audit_app(context.args, prog_name=context.command_path)


@app.command("demo-model")
def demo_model(path: Annotated[Path, typer.Argument(help="Folder to write it to.")]) -> None:
    """Make the demo model: a small random Llama, with a tokenizer trained on Warmroute's own texts."""
    from serve_app.demo.model import build_demo_model, is_current

    if is_current(path):
        console.print(f"Demo model in {path} is up to date.")
        return
    with console.status("Training the tokenizer and writing random weights"):
        build_demo_model(path)
    console.print(f"Demo model written to {path}.")


def _load(config: Path) -> Settings:
    try:
        return load_settings(config)
    except SettingsError as error:
        _fail(str(error))


def _check_policies(what: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in POLICY_NAMES:
            _fail(f"{what} {name} does not exist: use {POLICIES}")


def _change_routing(changes: dict[str, Any], application: str | None, dashboard: str | None) -> None:
    url, own_application = _target(dashboard)
    try:
        ServeApi(url).change_routing(application or own_application, changes, router_deployment=ROUTER_DEPLOYMENT)
    except ServeApiError as error:
        _fail(str(error))


def _target(dashboard: str | None) -> tuple[str, str]:
    """Dashboard and application to talk to."""
    run = _noted_run()
    if dashboard is not None:
        return dashboard, run.application if run else "warmroute"
    run = _local_run()
    return run.dashboard_url, run.application


def _noted_run() -> "Run | None":
    """The cluster that `serve` started from this folder, if it did."""
    from serve_app.local import cluster as local_cluster

    try:
        return local_cluster.Run.load()
    except local_cluster.RunFileError as error:
        _fail(str(error))


def _local_run() -> "Run":
    run = _noted_run()
    if run is None:
        _fail("no cluster was started from this folder: run `warmroute serve CONFIG` or `make serve` first")
    return run


def _fail(message: str) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {escape(message)}")
    raise typer.Exit(1)


if __name__ == "__main__":
    app()

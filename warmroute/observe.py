"""Look at a running application: `top`, `funnel`, `doctor`."""

from typing import Annotated

import typer

from warmroute.local_run import local_run, noted_run, running_application
from warmroute.terminal import ApplicationOption, DashboardOption, console, fail

group = typer.Typer()
PANEL = "Look at a running application"


@group.command(rich_help_panel=PANEL)
def top(
    *,
    window: Annotated[float, typer.Option(min=1, help="Seconds over which prompts are counted.")] = 60,
    once: Annotated[
        bool, typer.Option("--once", help="Print the table once, with totals since the routers started.")
    ] = False,
) -> None:
    """Show the running server's replicas, live: load, memory, and the hit rate predicted and actual."""
    from serve_app.telemetry import replica_table

    run = local_run()
    try:
        with running_application(run) as application:
            if once:
                snapshots = application.routers()
                console.print(replica_table.table(replica_table.replica_rows(snapshots), seconds=None, note=run.note))
                console.print(replica_table.routing_line(snapshots))
            else:
                replica_table.watch(application.routers, console, window_s=window, note=run.note)
    except KeyboardInterrupt:
        return


@group.command(rich_help_panel=PANEL)
def funnel() -> None:
    """Print where prompt tokens went since the routers of the running server started: reused, or lost to what."""
    from serve_app.telemetry import funnel_report

    run = local_run()
    with running_application(run) as application:
        routers = application.routers()
    rank_to_funnel, tenant_to_funnel = funnel_report.by_rank(routers), funnel_report.by_tenant(routers)
    console.print(funnel_report.table(funnel_report.add_up(rank_to_funnel.values()), note=run.note))
    console.print(funnel_report.comparison("replica", rank_to_funnel))
    if tenant_to_funnel:
        console.print(funnel_report.comparison("tenant", tenant_to_funnel))


@group.command(rich_help_panel=PANEL)
def doctor(
    *,
    application: ApplicationOption = None,
    url: Annotated[str | None, typer.Option(help="Address that clients use; needed with --dashboard.")] = None,
    dashboard: DashboardOption = None,
    ray_address: Annotated[str | None, typer.Option(help="Address of Ray; `auto` on a node of the cluster.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a running application and its cluster: one line for each check; status 1 if one fails."""
    from serve_app.doctor import main, report
    from serve_app.doctor.finding import Status
    from serve_app.doctor.target import TargetError, find_target

    run = noted_run()
    try:
        target = find_target(run, application=application, url=url, dashboard_url=dashboard, ray_address=ray_address)
    except TargetError as error:
        fail(str(error))
    with console.status("Examining"):
        findings = main.examine(target)
    if as_json:
        typer.echo(report.as_json(findings))
    else:
        for finding in findings:
            console.print(report.line(finding))
    if any(finding.status is Status.FAILED for finding in findings):
        raise typer.Exit(1)

"""Steer a running application: `policy`, `shadow`."""

from typing import Annotated, Any

import typer

from router.policies import PolicyName
from serve_app.control.serve_api import ServeApi, ServeApiError
from serve_app.control.serve_config import ROUTER_DEPLOYMENT
from warmroute.local_run import local_run, noted_run
from warmroute.terminal import POLICIES, ApplicationOption, DashboardOption, check_policies, console, fail

group = typer.Typer()
PANEL = "Steer a running application"


@group.command(rich_help_panel=PANEL)
def policy(
    name: Annotated[PolicyName, typer.Argument(help="The policy that routes from now on.")],
    application: ApplicationOption = None,
    dashboard: DashboardOption = None,
) -> None:
    """Change the routing policy; no replica restarts."""
    _change_routing({"policy": name}, application, dashboard)
    console.print(f"Routing by {name} within a second.")


@group.command(rich_help_panel=PANEL)
def shadow(
    names: Annotated[list[str] | None, typer.Argument(help=f"Some of {POLICIES}.")] = None,
    application: ApplicationOption = None,
    dashboard: DashboardOption = None,
) -> None:
    """Let other policies decide in shadow mode, and count what they would have cost; without NAMES, none."""
    shadows = list(dict.fromkeys(names or ()))
    check_policies("the policy", shadows)
    _change_routing({"shadow_policies": shadows}, application, dashboard)
    console.print(f"In the live policy's shadow within a second: {', '.join(shadows) or 'none'}.")


def _change_routing(changes: dict[str, Any], application: str | None, dashboard: str | None) -> None:
    url, own_application = _target(dashboard)
    try:
        ServeApi(url).change_routing(application or own_application, changes, router_deployment=ROUTER_DEPLOYMENT)
    except ServeApiError as error:
        fail(str(error))


def _target(dashboard: str | None) -> tuple[str, str]:
    """URL of the dashboard, and name of the application."""
    if dashboard is None:
        run = local_run()
        return run.dashboard_url, run.application
    noted = noted_run()
    return dashboard, noted.application if noted else "warmroute"

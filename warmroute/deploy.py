"""Deploy elsewhere: `serve-config`, `kubernetes`, `ready`, `grafana`, `alerts`."""

import json
from pathlib import Path
from typing import Annotated

import httpx
import typer
import yaml

from serve_app.control.serve_config import serve_config
from serve_app.settings.schema import HttpSettings
from warmroute.terminal import ConfigArgument, console, fail, load

group = typer.Typer()
PANEL = "Deploy and monitor elsewhere"


@group.command("serve-config", rich_help_panel=PANEL)
def print_serve_config(config: ConfigArgument) -> None:
    """Print CONFIG as Ray Serve's declarative config, for `serve deploy` or a RayService."""
    typer.echo(yaml.safe_dump(serve_config(load(config)), sort_keys=False), nl=False)


@group.command(rich_help_panel=PANEL)
def kubernetes(config: ConfigArgument) -> None:
    """Write the two files that a kustomize overlay takes from CONFIG: serve-config.yaml and data-path.env."""
    from serve_app.control.kubernetes import write_overlay_files

    try:
        for path in write_overlay_files(load(config), config):
            console.print(f"{path} written.")
    except OSError as error:
        fail(f"cannot write next to {config}: {error.strerror}")


@group.command(rich_help_panel=PANEL)
def ready(
    url: Annotated[str, typer.Option(help="The proxy on this node.")] = f"http://127.0.0.1:{HttpSettings().port}",
    mark: Annotated[Path, typer.Option(help="A file that remembers the first answer.")] = Path("/tmp/warmroute-ready"),  # noqa: S108
    any_answer: Annotated[  # noqa: FBT002  typer's way
        bool,
        typer.Option(
            "--any-answer", help="Accept an answer that was not routed; needed with `replicas.explain_headers: off`."
        ),
    ] = False,
) -> None:
    """Say whether this node serves, for a readiness probe: status 0 from its first routed answer on."""
    from serve_app.control.readiness import TIMEOUT_S, NotReadyError, check_readiness
    from serve_app.tenants.operator import operator_headers

    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=operator_headers()) as client:
            check_readiness(client, mark, any_answer=any_answer)
    except NotReadyError as error:
        fail(str(error))
    console.print("ready")


@group.command(rich_help_panel=PANEL)
def grafana() -> None:
    """Print a Grafana dashboard of Warmroute's metrics, as JSON to import."""
    from serve_app.telemetry.dashboard import dashboard

    typer.echo(json.dumps(dashboard(), indent=2))


@group.command(rich_help_panel=PANEL)
def alerts() -> None:
    """Print Prometheus alert rules on Warmroute's metrics, as a rule file."""
    from serve_app.telemetry.alerts import rules

    typer.echo(yaml.safe_dump(rules(), sort_keys=False, width=120), nl=False)

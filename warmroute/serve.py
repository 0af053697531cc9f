"""Serve on this machine: `serve`, `stop`, `check`, `demo-model`."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from serve_app.control.serve_api import ServeApiError
from serve_app.settings.load import SettingsError
from warmroute.local_run import noted_run
from warmroute.terminal import ConfigArgument, console, fail, load

group = typer.Typer()
PANEL = "Serve on this machine"


@group.command(rich_help_panel=PANEL)
def serve(config: ConfigArgument) -> None:
    """Start a local Ray cluster, deploy CONFIG, and stay until Ctrl-C or `warmroute stop`."""
    from serve_app.local import cluster, server

    settings = load(config)
    stopped = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stopped.set())
    try:
        with server.running(settings, console, stopped):
            stopped.wait()
    except (cluster.StartError, ServeApiError) as error:
        fail(str(error))


@group.command(rich_help_panel=PANEL)
def stop() -> None:
    """Stop the cluster that `serve` started here: exactly its processes, and no other Ray."""
    from serve_app.local import cluster

    run = noted_run()
    if run is None:
        console.print("Nothing to stop: no cluster was started from this folder.")
        return
    with console.status("Stopping"):
        cluster.stop(run)
    console.print("Stopped.")


@group.command(rich_help_panel=PANEL)
def check(config: ConfigArgument) -> None:
    """Validate CONFIG, including the part for Ray Serve LLM and vLLM."""
    from serve_app.settings import vllm_options

    settings = load(config)
    try:
        vllm_options.parse(settings.llm)
    except SettingsError as error:
        fail(f"{config} cannot be used:\n{error}")
    console.print(f"{config} is valid.")


@group.command("demo-model", rich_help_panel=PANEL)
def demo_model(path: Annotated[Path, typer.Argument(help="Folder to write it to.")]) -> None:
    """Make the demo model: a small random Llama, with a tokenizer trained on Warmroute's own texts."""
    from serve_app.demo.model import build_demo_model, is_current

    if is_current(path):
        console.print(f"Demo model in {path} is up to date.")
        return
    with console.status("Training the tokenizer and writing random weights"):
        build_demo_model(path)
    console.print(f"Demo model written to {path}.")

"""The cluster that `warmroute serve` started from this folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from serve_app.control.serve_api import ServeApiError
from warmroute.terminal import fail

if TYPE_CHECKING:
    from serve_app.control.running_application import RunningApplication
    from serve_app.local.cluster import LocalRun


def noted_run() -> "LocalRun | None":
    """The run, if there is one."""
    from serve_app.local import cluster

    try:
        run = cluster.LocalRun.load()
    except cluster.RunFileError as error:
        fail(str(error))
    if run is not None:
        run.take_secret()
    return run


def local_run() -> "LocalRun":
    """The run; without one, the command ends."""
    run = noted_run()
    if run is None:
        fail("no cluster was started from this folder: run `warmroute serve CONFIG` or `make serve` first")
    return run


@contextmanager
def running_application(run: "LocalRun") -> "Iterator[RunningApplication]":
    """The application of the run; a failure to reach it ends the command."""
    from serve_app.control.running_application import ApplicationError, RunningApplication

    try:
        with RunningApplication(
            run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url
        ) as application:
            yield application
    except (ApplicationError, ServeApiError) as error:
        fail(str(error))

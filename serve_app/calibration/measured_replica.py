"""The replica that is measured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from serve_app.calibration.bystanders import Bystanders
from serve_app.calibration.errors import CalibrationError
from serve_app.control.running_application import RunningApplication
from serve_app.local.cluster import LocalRun
from serve_app.local.haproxy import replica_urls
from serve_app.messages.snapshot import short_id


@dataclass(frozen=True, slots=True)
class MeasuredReplica:
    """The replica to measure."""

    url: str
    """The replica's own address."""
    bystanders: Bystanders | None
    """Other users of the replica; None where they are not known."""


@contextmanager
def find_replica(run: LocalRun | None, *, url: str | None, replica: str | None) -> Iterator[MeasuredReplica]:
    """The replica of that URL, or one of the cluster that was started here, which is joined while the block runs.

    Args:
        run: that cluster.
        url: goes before it.
        replica: the short id of one of its replicas; None for any.

    Raises:
        CalibrationError: there is none, or others are using it.

    """
    if url is not None:
        yield MeasuredReplica(url.rstrip("/").removesuffix("/v1"), bystanders=None)
        return
    if run is None:
        raise CalibrationError(
            "no cluster was started from this folder: run `warmroute serve CONFIG` or `make serve` first, "
            "or name a replica's own address with --url"
        )
    urls = replica_urls(run.run_dir)
    with RunningApplication(run.application, ray_address=run.ray_address, dashboard_url=run.dashboard_url) as running:
        replica_id = choose_replica(running.routers()[0].replicas, urls, wanted=replica)
        yield MeasuredReplica(urls[short_id(replica_id)], Bystanders(lambda: running.routers()[0], replica_id))


def choose_replica(replicas: Mapping[str, object], urls: Mapping[str, str], *, wanted: str | None) -> str:
    """The full id of the replica that is wanted, or of the first that can be reached.

    Raises:
        CalibrationError: there is no such replica.

    """
    reachable = {short_id(replica_id): replica_id for replica_id in replicas if short_id(replica_id) in urls}
    if wanted is None and reachable:
        return next(iter(reachable.values()))
    if wanted not in reachable:
        raise CalibrationError(
            f"no replica {wanted or ''} is known to HAProxy and the routers: there is {', '.join(reachable) or 'none'}"
        )
    return reachable[wanted]

"""What to examine, and how to get there."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from serve_app.local.cluster import LocalRun


class TargetError(ValueError):
    """The command line does not say enough; the message says what is lacking."""


@dataclass(frozen=True, slots=True)
class Target:
    """One application."""

    application: str
    url: str
    """The client's, without /v1."""
    dashboard_url: str
    ray_address: str


def find_target(
    run: LocalRun | None,
    *,
    application: str | None,
    url: str | None,
    dashboard_url: str | None,
    ray_address: str | None,
) -> Target:
    """What was asked for, completed from the cluster that was started here, unless another one was named.

    Raises:
        TargetError: there is no such cluster, or an option is not usable.

    """
    for option, value in (("--url", url), ("--dashboard", dashboard_url)):
        if value is not None and not _is_url(value):
            raise TargetError(f"{option} {value} is not a URL like http://127.0.0.1:8000")
    if dashboard_url is not None:
        if url is None:
            raise TargetError("--dashboard names another cluster: say with --url where its clients connect")
        return Target(application or "warmroute", _base(url), dashboard_url, ray_address or "auto")
    if run is None:
        raise TargetError(
            "no cluster was started from this folder: run `warmroute serve CONFIG` or `make serve` first, "
            "or name another with --dashboard and --url"
        )
    return Target(
        application or run.application, _base(url or run.url), run.dashboard_url, ray_address or run.ray_address
    )


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1")

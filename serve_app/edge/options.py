"""What the program that becomes HAProxy is told, in one environment variable. Free of all that is slow to import."""

from typing import Self

import msgspec

EDGE_VARIABLE = "WARMROUTE_EDGE"
SECRET_VARIABLE = "WARMROUTE_SECRET"  # noqa: S105  its name, not a secret
"""What all processes of one cluster share: by it, a router knows HAProxy, and a replica knows a router."""
SECRET_HEADER = "x-warmroute-edge"  # noqa: S105  its name
"""HAProxy's questions to routers carry the secret in it."""


class EdgeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """See `serve_app.settings.EdgeSettings`, where each has its default."""

    host: str | None
    """Where clients connect; None for all interfaces."""
    session_header: str
    router_timeout_s: float
    head_timeout_s: float
    body_timeout_s: float
    max_connections_per_source: int | None
    max_requests_per_s_per_source: float | None
    max_head_kib: int
    more_paths: list[str]
    metrics_host: str | None
    certificate: str | None

    def encode(self) -> str:
        """As the environment variable's value."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, value: str) -> Self:
        """From the environment variable's value.

        Raises:
            msgspec.ValidationError: another version of Warmroute wrote it.

        """
        return msgspec.json.decode(value, type=cls)

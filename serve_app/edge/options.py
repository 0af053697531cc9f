"""What the program that becomes HAProxy is told, in one environment variable. Free of all that is slow to import."""

from collections.abc import Mapping
from typing import Self

import msgspec

from serve_app.settings.cluster_secret import derived_key

HAPROXY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""Ray's: the program that it starts as HAProxy."""
EDGE_VARIABLE = "WARMROUTE_EDGE"
TOKEN_HEADER = "x-warmroute-edge"  # noqa: S105  its name, not a token
"""HAProxy's questions to routers carry a token in it, by which they know it; so does what replicas and routers tell."""


class EdgeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """See `EdgeSettings` and `AccessSettings` in `serve_app.settings.schema`, where each has its default."""

    host: str | None
    """Where clients connect; None for all interfaces."""
    router_timeout_s: float
    router_retry_s: float
    head_timeout_s: float
    body_timeout_s: float
    max_connections_per_source: int | None
    max_requests_per_s_per_source: float | None
    max_head_kib: int
    more_paths: list[str]
    certificate: str | None
    tls_port: int
    key_file: str | None

    def encode(self) -> str:
        """The options as the environment variable's value."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, value: str) -> Self:
        """Read the options from the environment variable's value.

        Raises:
            msgspec.ValidationError: another version of Warmroute wrote it.

        """
        return msgspec.json.decode(value, type=cls)


def edge_token(environment: Mapping[str, str] | None = None) -> str:
    """What HAProxy shows to routers.

    Raises:
        SecretError: the cluster's secret is not set.

    """
    return derived_key("edge", environment).hex()

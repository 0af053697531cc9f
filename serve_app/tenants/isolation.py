"""What keeps the caches of tenants apart: a salt of each, which nobody outside the cluster can find.

vLLM's own `cache_salt` is in the hash of a prompt's first block, and so in that of all others: prompts of different
salts never share a block. Clients may choose one, so it cannot be what separates them. Here it is nested in a salt
which is made from the cluster's secret.
"""

import hmac
from collections.abc import Mapping

from serve_app.settings.cluster_secret import derived_key
from serve_app.settings.schema import IsolationMode

SALT_CHARS = 32
"""Hexadecimal digits of a salt: 128 bits."""


class Isolation:
    """Salts of one cluster.

    Args:
        mode: `tenant`: each tenant's cache is its own. `group`: tenants of one group share theirs. `shared`: all do.
        version: the key file's `salt_version`.
        environment: where the cluster's secret is; this process's by default.

    Raises:
        SecretError: the cluster's secret is not set.

    """

    def __init__(self, mode: IsolationMode, *, version: int = 0, environment: Mapping[str, str] | None = None) -> None:
        self._mode = mode
        self._key = derived_key(f"cache_salt {version}", environment)

    def salt(self, tenant: str, group: str | None) -> str:
        """The salt of a tenant's prompts; empty where all tenants share one cache."""
        if self._mode == "shared":
            return ""
        domain = f"group {group}" if self._mode == "group" and group is not None else f"tenant {tenant}"
        return hmac.digest(self._key, domain.encode(), "sha256").hex()[:SALT_CHARS]


def nested_salt(salt: str, client_salt: str) -> str:
    """A client's own salt, within that of its tenant: the `cache_salt` that router and engine go by.

    A tenant's salt has a fixed length, so different pairs never give the same; an empty one leaves the client's alone.
    """
    return salt + client_salt

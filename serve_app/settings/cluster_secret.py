"""What a cluster's processes share and no client knows: by it, routers know HAProxy, and replicas know routers."""

import hmac
import os
from collections.abc import Mapping

SECRET_VARIABLE = "WARMROUTE_SECRET"  # noqa: S105  its name, not a secret
"""The same on every Ray node. `warmroute serve` makes one for its cluster."""
MIN_SECRET_CHARS = 32


class SecretError(ValueError):
    """There is no secret, or it is too short; the message says what to do."""


def derived_key(purpose: str, environment: Mapping[str, str] | None = None) -> bytes:
    """A key of 32 bytes for one purpose, from which neither the secret nor another purpose's key can be told.

    Args:
        purpose: each use has its own.
        environment: where the secret is; this process's by default.

    Raises:
        SecretError: the secret is not set, or too short to be hard to guess.

    """
    secret = (os.environ if environment is None else environment).get(SECRET_VARIABLE, "")
    if len(secret) < MIN_SECRET_CHARS:
        raise SecretError(
            f"the environment variable {SECRET_VARIABLE} has {len(secret)} characters: set it on every Ray node to the "
            f"same {MIN_SECRET_CHARS} random characters or more, such as `openssl rand -hex 32` prints"
        )
    return hmac.digest(secret.encode(), purpose.encode(), "sha256")

"""The key in a request's headers, as OpenAI's and Anthropic's clients send it."""

from collections.abc import Iterable

AUTHORIZATION = b"authorization"
API_KEY = b"x-api-key"
SCHEME = b"bearer"
TENANT_HEADER = "x-warmroute-tenant"
"""In HAProxy's questions to routers: whose key the client has. Replicas look for themselves."""
MAX_KEY_BYTES = 512
"""A longer one is no key; it is not even hashed."""


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The only key in `Authorization: Bearer KEY` and `x-api-key: KEY`; None without one, or with different ones.

    Args:
        headers: names in lower case, and values.

    """
    keys = {key for name, value in headers if (key := _key(name, value)) is not None}
    if len(keys) != 1:
        return None
    (key,) = keys
    return key if 0 < len(key) <= MAX_KEY_BYTES else None


def _key(name: bytes, value: bytes) -> bytes | None:
    if name == API_KEY:
        return value.strip()
    if name != AUTHORIZATION:
        return None
    scheme, _, key = value.strip().partition(b" ")
    return key.strip() if scheme.lower() == SCHEME else b""

"""API keys: how one is made, and what is kept of it.

A key is 32 random bytes, so a fast hash is enough to keep it by: nothing shorter than trying all keys finds one from
its SHA-256. Looked up by that digest, a wrong key tells by its time nothing of the right one.
"""

import base64
import hashlib
import secrets
from typing import NamedTuple

PREFIX = "wr"
"""By which people and secret scanners know a key of Warmroute's."""
ID_BYTES = 4
SECRET_BYTES = 32


class NewKey(NamedTuple):
    """A key as it is shown once."""

    id: str
    """Its public name: 8 hexadecimal digits, which stand within the key too."""
    text: str
    """The key: `wr-ID-SECRET`, 54 characters."""


def new_key() -> NewKey:
    """A key that no one has."""
    key_id = secrets.token_hex(ID_BYTES)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
    return NewKey(key_id, f"{PREFIX}-{key_id}-{secret}")


def key_digest(key: bytes) -> str:
    """The SHA-256 of a key, as 64 hexadecimal digits."""
    return hashlib.sha256(key).hexdigest()

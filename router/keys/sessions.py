"""A client's own name for its conversation, as a key of the ring."""

import xxhash

from router.types import SessionKey


def session_key(session_id: str) -> SessionKey | None:
    """Hash of the name; None for the empty name, which is no session.

    The name may be personal or a secret, so the core, and messages between routers, contain the hash only.
    """
    return SessionKey(xxhash.xxh3_64_intdigest(session_id.encode())) if session_id else None

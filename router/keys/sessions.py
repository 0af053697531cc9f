"""A client's own name for its conversation, as a key of the ring."""

import xxhash

from router.types import SessionKey


def session_key(session_id: str) -> SessionKey | None:
    """The name's hash; none for the empty name, which is no session.

    The name may be a person's or a secret, so this is all that the core gets, and what routers tell each other.
    """
    return SessionKey(xxhash.xxh3_64_intdigest(session_id.encode())) if session_id else None

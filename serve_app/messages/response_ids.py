"""Ids of stored responses that say which replica has them.

A client continues a response by its id (`previous_response_id`), and only the replica that stored the response knows
what that continues. Where the id itself says which one that is, any router finds it, also one that has only just been
started; there is nothing to remember and nothing to tell.
"""

import uuid
from collections.abc import Iterable

import xxhash

from router import ReplicaId


def new_response_id(replica_id: str) -> str:
    """An id for a response that this replica may store."""
    return _id_prefix(replica_id) + uuid.uuid4().hex


def stored_at(response_id: str, replica_ids: Iterable[ReplicaId]) -> ReplicaId | None:
    """The replica among these that made the id; None if none did: it is gone, or the client made the id."""
    return next((replica_id for replica_id in replica_ids if response_id.startswith(_id_prefix(replica_id))), None)


def _id_prefix(replica_id: str) -> str:
    return f"resp_{xxhash.xxh3_64_hexdigest(replica_id.encode())}"

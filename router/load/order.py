"""Replicas in the order of their loads, the least loaded first, while loads change."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

from router.types import ReplicaId


class LoadKey(NamedTuple):
    """The numbers to compare; the first difference decides. Recent work is one, so that no replica stays idle."""

    pending_tokens: int
    num_running: int
    recent: float
    replica_id: ReplicaId


class LoadOrder:
    """A sorted list: moving one of 1,024 replicas costs a search and a shift of pointers, a few microseconds."""

    def __init__(self) -> None:
        self._keys: list[LoadKey] = []
        self._replica_to_key: dict[ReplicaId, LoadKey] = {}

    def put(self, key: LoadKey) -> None:
        """Add a replica, or move it to its present place."""
        self.discard(key.replica_id)
        self._replica_to_key[key.replica_id] = key
        insort(self._keys, key)

    def discard(self, replica_id: ReplicaId) -> None:
        """Remove a replica, if it is there."""
        key = self._replica_to_key.pop(replica_id, None)
        if key is not None:
            del self._keys[bisect_left(self._keys, key)]

    def __iter__(self) -> Iterator[ReplicaId]:
        """Every replica, the least loaded first."""
        return (key.replica_id for key in self._keys)

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        assert self._keys == sorted(self._replica_to_key.values())

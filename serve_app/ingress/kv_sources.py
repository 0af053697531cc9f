"""The replicas whose KV events a router follows, and how far it has followed each."""

from collections.abc import Collection

from router import ReplicaId, Router
from serve_app.messages.kv_updates import KvChange, KvCleared, KvRemoved, KvStored, KvUpdate


class KvSources:
    """Applies updates in their order to the core. After a missing update, what the replica has cached is estimated from
    receipts until its snapshot is here.
    """

    def __init__(self) -> None:
        self._replica_to_number: dict[ReplicaId, int] = {}
        self.num_lost = 0
        """Number of times that an update was missing, or that a replica said that it lost count itself."""

    def keep_only(self, replica_ids: Collection[ReplicaId]) -> None:
        """Forget replicas that are gone."""
        for replica_id in self._replica_to_number.keys() - set(replica_ids):
            del self._replica_to_number[replica_id]

    def on_update(self, replica_id: ReplicaId, update: KvUpdate, router: Router) -> bool:
        """Apply an update; says whether a snapshot is wanted, which it never is of a replica unknown to the router."""
        if replica_id not in router.cluster.load:
            return False
        number = self._number(replica_id, router)
        if update.kind == "lost":
            self._lose(replica_id, router)
            return False
        if update.kind == "snapshot":
            if number is None:
                self._begin(replica_id, update, router)
            return False
        if number is None and update.number == update.num_steps:
            self._begin(replica_id, update, router)
            return False
        if update.number - update.num_steps != number:
            self._lose(replica_id, router)
            return True
        self._apply(replica_id, update, router)
        return False

    def _number(self, replica_id: ReplicaId, router: Router) -> int | None:
        """Number of the last update that was applied; None while the core does not go by them."""
        return self._replica_to_number.get(replica_id) if router.cluster.holders.is_exact(replica_id) else None

    def _begin(self, replica_id: ReplicaId, update: KvUpdate, router: Router) -> None:
        router.on_blocks_cleared(replica_id)
        self._apply(replica_id, update, router)

    def _apply(self, replica_id: ReplicaId, update: KvUpdate, router: Router) -> None:
        for change in update.changes:
            _apply(replica_id, change, router)
        self._replica_to_number[replica_id] = update.number

    def _lose(self, replica_id: ReplicaId, router: Router) -> None:
        if self._number(replica_id, router) is not None:
            self.num_lost += 1
            router.on_events_lost(replica_id)


def _apply(replica_id: ReplicaId, change: KvChange, router: Router) -> None:
    match change:
        case KvStored():
            router.on_blocks_stored(replica_id, change.parent, change.block_hashes)
        case KvRemoved():
            router.on_blocks_removed(replica_id, change.block_hashes)
        case KvCleared():
            router.on_blocks_cleared(replica_id)

"""Updates of a replica's KV cache that wait to be sent with its receipts, as few that say the same. Pure."""

from collections.abc import Iterable, Iterator, Sequence

from router import BlockHash
from serve_app.messages import batches
from serve_app.messages.kv_updates import KvChange, KvCleared, KvRemoved, KvStored, KvUpdate
from serve_app.messages.receipts import Receipt

ReplicaMessage = Receipt | KvUpdate
"""What a replica tells the routers."""


def encode_with_receipts(sender: str, number: int, items: Sequence[ReplicaMessage]) -> bytes:
    """A replica's batch: its receipts, and what changed in its KV cache since the last one."""
    receipts = [item for item in items if not isinstance(item, KvUpdate)]
    return batches.encode(sender, number, receipts, merged([item for item in items if isinstance(item, KvUpdate)]))


def merged(updates: Sequence[KvUpdate]) -> list[KvUpdate]:
    """Each stretch without a gap as one update; snapshots, and that all is lost, stay what they are."""
    stretches: list[list[KvUpdate]] = []
    for update in updates:
        if stretches and _follows(update, stretches[-1][-1]):
            stretches[-1].append(update)
        else:
            stretches.append([update])
    return [_as_one(stretch) for stretch in stretches]


def _follows(update: KvUpdate, before: KvUpdate) -> bool:
    return update.kind == before.kind == "changes" and update.number - update.num_steps == before.number


def _as_one(updates: Sequence[KvUpdate]) -> KvUpdate:
    if len(updates) == 1:
        return updates[0]
    changes = (change for update in updates for change in update.changes)
    return KvUpdate(
        updates[-1].number, tuple(merged_changes(changes)), num_steps=sum(update.num_steps for update in updates)
    )


def merged_changes(changes: Iterable[KvChange]) -> list[KvChange]:
    """The same in the end, whatever there was before: few removals, long chains, nothing of what was cleared.

    What can be reused depends on which copies there are, and not on the order in which they came or went. So a removal
    may come before what was stored earlier, unless that is what it removes.
    """
    done: list[KvChange] = []
    period = _Period()
    for change in changes:
        match change:
            case KvStored():
                period.store(change)
            case KvRemoved():
                if not period.stored.isdisjoint(change.block_hashes):
                    done += period.changes()
                    period = _Period()
                period.removed += change.block_hashes
            case KvCleared():
                done, period = [change], _Period()
    return [*done, *period.changes()]


class _Period:
    """Changes of which none removes what another one has stored."""

    def __init__(self) -> None:
        self.removed: list[BlockHash] = []
        self.stored: set[BlockHash] = set()
        self._chains: list[tuple[BlockHash | None, list[BlockHash]]] = []
        self._last_to_chain: dict[BlockHash, list[BlockHash]] = {}

    def store(self, change: KvStored) -> None:
        """Append to the chain that the blocks continue, if that is here: an answer grows block by block."""
        self.stored.update(change.block_hashes)
        chain = None if change.parent is None else self._last_to_chain.pop(change.parent, None)
        if chain is None:
            chain = []
            self._chains.append((change.parent, chain))
        chain += change.block_hashes
        self._last_to_chain[chain[-1]] = chain

    def changes(self) -> Iterator[KvChange]:
        """The removals, then the chains."""
        if self.removed:
            yield KvRemoved(tuple(self.removed))
        for parent, chain in self._chains:
            yield KvStored(parent, tuple(chain))

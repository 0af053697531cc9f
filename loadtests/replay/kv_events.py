"""What an engine tells of its cache: vLLM's events (`vllm/distributed/kv_events.py`), in the routers' block hashes."""

from dataclasses import dataclass

from router import BlockHash, ReplicaId, Router


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """A chain of blocks that are full."""

    parent: BlockHash | None
    block_hashes: tuple[BlockHash, ...]


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """Blocks whose memory was taken, in that order. vLLM tells of each by itself."""

    block_hashes: tuple[BlockHash, ...]


KvEvent = BlocksStored | BlocksRemoved


@dataclass(frozen=True, slots=True)
class KvEventBatch:
    """What one step did to an engine's cache."""

    number: int
    """Counts the engine's batches from 1 on, so that one that is missing is noticed."""
    events: tuple[KvEvent, ...]


class KvEventReader:
    """One router's side of one replica's events: all of them, from the first on, or none."""

    def __init__(self, replica_id: ReplicaId, router: Router) -> None:
        self._replica_id = replica_id
        self._router = router
        self._next_number = 1

    def read(self, batch: KvEventBatch) -> None:
        """The next batch, or, if it is another one, the end of knowing."""
        if batch.number == self._next_number == 1:
            self._router.on_blocks_cleared(self._replica_id)
        if batch.number > self._next_number:
            self._router.on_events_lost(self._replica_id)
        elif batch.number == self._next_number:
            for event in batch.events:
                match event:
                    case BlocksStored():
                        self._router.on_blocks_stored(self._replica_id, event.parent, event.block_hashes)
                    case BlocksRemoved():
                        self._router.on_blocks_removed(self._replica_id, event.block_hashes)
        self._next_number = max(self._next_number, batch.number + 1)

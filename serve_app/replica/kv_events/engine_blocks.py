"""The blocks that an engine has cached, by its own events, under the hashes that routers know. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from router import BlockHash, hash_blocks, root_hash
from serve_app.messages.kv_updates import KvChange, KvCleared, KvRemoved, KvStored
from serve_app.replica.kv_events.wire import AllBlocksCleared, BlockRemoved, BlockStored, EngineEvent, EngineHash

GPU = "GPU"


class UnsupportedCacheError(Exception):
    """These events do not say what can be reused; the message says why."""


@dataclass(slots=True)
class _Block:
    block_hash: BlockHash
    parent: BlockHash | None
    num_copies: int = 1


class EngineBlocks:
    """Follows the events from an empty cache on.

    vLLM names a block by a hash of its own, and tells the tokens, adapter and salt only when it stores one. So what it
    removes is known by that name. Blocks of prompts that routers have no keys for, as those of embeddings, are left out
    with all that builds on them.

    Args:
        model: the base model's name in keys.
        block_size: the engine's, in tokens.

    """

    def __init__(self, *, model: str, block_size: int) -> None:
        self._model = model
        self._block_size = block_size
        self._name_to_block: dict[EngineHash, _Block] = {}

    def __len__(self) -> int:
        """The number of different blocks."""
        return len(self._name_to_block)

    def apply(self, event: EngineEvent) -> KvChange | None:
        """The event in the routers' terms; None if it means nothing to them.

        Raises:
            UnsupportedCacheError: of a model whose layers have caches of several kinds, or of a prompt with an image.

        """
        if isinstance(event, AllBlocksCleared):
            self._name_to_block.clear()
            return KvCleared()
        if event.medium not in {None, GPU}:
            return None
        if event.group_idx:
            raise UnsupportedCacheError("the model's layers have several kinds of KV cache")
        return self._store(event) if isinstance(event, BlockStored) else self._remove(event)

    def snapshot(self) -> tuple[KvChange, ...]:
        """All blocks as if they were stored now: every copy of every block, mostly parents first."""
        chains: list[tuple[BlockHash | None, list[BlockHash]]] = []
        for block in self._name_to_block.values():
            if block.num_copies == 1 and chains and chains[-1][1][-1] == block.parent:
                chains[-1][1].append(block.block_hash)
            else:
                chains += [(block.parent, [block.block_hash]) for _ in range(block.num_copies)]
        return tuple(KvStored(parent, tuple(block_hashes)) for parent, block_hashes in chains)

    def _store(self, event: BlockStored) -> KvStored | None:
        """Store a chain, as far as its keys can be made."""
        if event.block_size != self._block_size:  # a part of a block, which cannot be reused by itself
            return None
        num_blocks = _num_readable(event)
        parent: BlockHash | None = None
        if event.parent_block_hash is None:
            root = self._root(event)
        elif event.parent_block_hash in self._name_to_block:
            root = parent = self._name_to_block[event.parent_block_hash].block_hash
        else:
            return None
        if not num_blocks:
            return None
        token_ids = event.token_ids[: num_blocks * self._block_size]
        block_hashes = hash_blocks(token_ids, block_size=self._block_size, root=root)
        before = parent
        for name, block_hash in zip(event.block_hashes, block_hashes, strict=False):
            known = self._name_to_block.get(name)
            if known is None:
                self._name_to_block[name] = _Block(block_hash, before)
            else:
                known.num_copies += 1
            before = block_hash
        return KvStored(parent, block_hashes)

    def _remove(self, event: BlockRemoved) -> KvRemoved | None:
        removed = tuple(self._remove_copies(event.block_hashes))
        return KvRemoved(removed) if removed else None

    def _remove_copies(self, names: Sequence[EngineHash]) -> Iterator[BlockHash]:
        for name in names:
            block = self._name_to_block.get(name)
            if block is None:
                continue
            block.num_copies -= 1
            if not block.num_copies:
                del self._name_to_block[name]
            yield block.block_hash

    def _root(self, event: BlockStored) -> BlockHash:
        first = event.extra_keys[0] if event.extra_keys else None
        salt = _without_adapter(first, event.lora_name)
        return root_hash(
            model=self._model, adapter=event.lora_name or "", tenant="", cache_salt=str(salt[0]) if salt else ""
        )


def _num_readable(event: BlockStored) -> int:
    """Leading blocks of which nothing but tokens, adapter and salt tells one from another.

    Raises:
        UnsupportedCacheError: an image does, for which routers have keys.

    """
    for number, extra_keys in enumerate(event.extra_keys or ()):
        others = _without_adapter(extra_keys, event.lora_name)
        if any(isinstance(key, list) for key in others):  # an image's hash and place
            raise UnsupportedCacheError("a prompt has an image, and vLLM does not tell how long it is")
        is_salt = number == 0 and event.parent_block_hash is None and len(others) == 1 and isinstance(others[0], str)
        if others and not is_salt:
            return number
    return len(event.block_hashes)


def _without_adapter(extra_keys: Sequence[Any] | None, lora_name: str | None) -> Sequence[Any]:
    """vLLM's order: adapter, images, salt, embeddings (`generate_block_hash_extra_keys`)."""
    keys = extra_keys or ()
    return keys[1:] if lora_name is not None and keys and keys[0] == lora_name else keys

"""KV events as vLLM publishes them, and the updates by which a replica passes them on to the routers."""

from typing import Annotated, Any, Literal

import msgspec

from router import BlockHash

TOPIC = "warmroute"
"""Under which our engines publish. VLLM takes no publisher's name but its own two, so this says whose one it shall be
(`kv_publisher.py`)."""
EngineHash = bytes | int
"""VLLM's own name of a block; an integer where `VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES` is set."""


KnownHash = Annotated[BlockHash, msgspec.Meta(ge=0)]
"""Checked when it arrives: the core keeps hashes as unsigned numbers."""


class BlockStored(msgspec.Struct, tag="BlockStored", frozen=True):
    """Of vLLM's, what is read: a chain of blocks that hold so many tokens each."""

    block_hashes: list[EngineHash]
    parent_block_hash: EngineHash | None
    token_ids: list[int]
    block_size: int
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: list[list[Any] | None] | None = None
    group_idx: int | None = None


class BlockRemoved(msgspec.Struct, tag="BlockRemoved", frozen=True):
    """Of vLLM's, what is read."""

    block_hashes: list[EngineHash]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", frozen=True):
    """VLLM's."""


EngineEvent = BlockStored | BlockRemoved | AllBlocksCleared


class EngineBatch(msgspec.Struct, array_like=True, frozen=True):
    """What is published at a time: what one step did, or several."""

    ts: float
    events: list[EngineEvent]


class KvStored(msgspec.Struct, tag="stored", frozen=True):
    """A chain of blocks, by the routers' hashes."""

    parent: KnownHash | None
    """None at the beginning of prompts."""
    block_hashes: tuple[KnownHash, ...]


class KvRemoved(msgspec.Struct, tag="removed", frozen=True):
    """Blocks, in no order."""

    block_hashes: tuple[KnownHash, ...]


class KvCleared(msgspec.Struct, tag="cleared", frozen=True):
    """No blocks are left."""


KvChange = KvStored | KvRemoved | KvCleared


class KvUpdate(msgspec.Struct, frozen=True):
    """What changed in a replica's KV cache. One without changes says that there were none since that number."""

    number: int
    """How many of the engine's steps changed something since the replica started, these included; those that the engine
    told of together count as one."""
    changes: tuple[KvChange, ...] = ()
    kind: Literal["changes", "snapshot", "lost"] = "changes"
    """A snapshot is all there is, stored anew; `lost` says that nobody knows what there is."""
    num_steps: int = 0
    """Of which the changes are."""

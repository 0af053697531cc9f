"""KV events as vLLM publishes them, as far as they are read."""

from typing import Any

import msgspec

TOPIC = "warmroute"
"""Under which our engines publish. vLLM takes no publisher's name but its own two, so this says whose one it shall be
(`vllm_publisher.py`)."""
EngineHash = bytes | int
"""vLLM's own name of a block; an integer where `VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES` is set."""


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
    """vLLM's."""


EngineEvent = BlockStored | BlockRemoved | AllBlocksCleared


class EngineBatch(msgspec.Struct, array_like=True, frozen=True):
    """What is published at a time: what one step did, or several."""

    ts: float
    events: list[EngineEvent]

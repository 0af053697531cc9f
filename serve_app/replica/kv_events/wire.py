"""KV events as vLLM publishes them, as far as they are read."""

from typing import Any

import msgspec

TOPIC = "warmroute"
"""The topic of our engines. vLLM takes no publisher's name but its own two, so the topic says whose publisher it shall
be (`vllm_publisher.py`)."""
EngineHash = bytes | int
"""vLLM's own hash of a block; an integer where `VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES` is set."""


class BlockStored(msgspec.Struct, tag="BlockStored", frozen=True):
    """The fields of vLLM's event that are read here: a chain of blocks of `block_size` tokens."""

    block_hashes: list[EngineHash]
    parent_block_hash: EngineHash | None
    token_ids: list[int]
    block_size: int
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: list[list[Any] | None] | None = None
    group_idx: int | None = None


class BlockRemoved(msgspec.Struct, tag="BlockRemoved", frozen=True):
    """The fields of vLLM's event that are read here."""

    block_hashes: list[EngineHash]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", frozen=True):
    """vLLM's event of an emptied cache."""


EngineEvent = BlockStored | BlockRemoved | AllBlocksCleared


class EngineBatch(msgspec.Struct, array_like=True, frozen=True):
    """What is published at a time: the events of one step, or of several."""

    ts: float
    events: list[EngineEvent]

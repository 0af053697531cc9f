"""Updates by which a replica passes its engine's KV events on to the routers."""

from typing import Annotated, Literal

import msgspec

from router import BlockHash

KnownHash = Annotated[BlockHash, msgspec.Meta(ge=0)]
"""Checked when it arrives: the core keeps hashes as unsigned numbers."""


class KvStored(msgspec.Struct, tag="stored", frozen=True):
    """A chain of blocks, by the routers' hashes."""

    parent: KnownHash | None
    """The block before the chain; None where a prompt starts."""
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
    """Number of the engine's steps that changed something since the replica started, these included; steps that the
    engine told together count as one."""
    changes: tuple[KvChange, ...] = ()
    kind: Literal["changes", "snapshot", "lost"] = "changes"
    """A snapshot is all blocks, stored again; `lost` says that the replica does not know them any more."""
    num_steps: int = 0
    """Number of steps that the changes belong to."""

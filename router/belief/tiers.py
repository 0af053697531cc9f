"""The second tier of replicas: KV in the host's memory, which comes back for less than it costs to compute.

Engines with such a tier copy to it what they compute, and each tier evicts on its own the longest unused blocks. So its
contents are estimated by a second LRU beside the one of the GPU's cache (`Holders`), of the tier's own capacity, with
everything that was computed. Prompts that are only outstanding are not in it: they were not copied yet.

A tier that is configured may still never give anything back (vllm#46971: with speculative decoding; vllm#53498: lookups
never hit). So nothing is expected of it until its engine has reported tokens that came from there, and then only the
share of the expected tokens that came lately.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from router.belief.holders import NO_WORK, Holders
from router.belief.match import PrefixMatch
from router.outcomes.reuse import Reuse
from router.state import HeldRun
from router.types import BlockHash, ReplicaId

HOST_TOKENS_PER_S = 150_000.0
"""Default speed at which tokens' KV comes back: 20 GB/s, as over PCIe 4.0 x16, and 128 KiB a token (2 x 32 layers x 8
KV heads x 128 x 2 bytes, Llama 3.1 8B)."""

NOTHING = PrefixMatch((), 0)


class CachedTokens(NamedTuple):
    """Estimated tokens of a prompt that a replica reuses."""

    local: int
    """Tokens from the cache on its GPU, at no cost."""
    external: int
    """Tokens from its second tier, for the time until they are back."""

    @property
    def total(self) -> int:
        """Tokens that need not be computed."""
        return self.local + self.external


class Tiers:
    """Estimated contents of the second tiers of all replicas that have one."""

    def __init__(self) -> None:
        self._holders = Holders()  # the proven ones
        self._replica_to_capacity_blocks: dict[ReplicaId, int] = {}
        self._proven: set[ReplicaId] = set()
        self._reloads = Reuse()

    def set_capacity(self, replica_id: ReplicaId, *, capacity_blocks: int) -> None:
        """Set the size that a replica reports of its second tier; 0 for none."""
        if not capacity_blocks:
            self.remove(replica_id)
            return
        self._replica_to_capacity_blocks[replica_id] = capacity_blocks
        if replica_id in self._proven:
            self._holders.add_replica(replica_id, capacity_blocks=capacity_blocks)

    def remove(self, replica_id: ReplicaId) -> None:
        """Forget a tier: its replica is gone, or has none any more."""
        self._replica_to_capacity_blocks.pop(replica_id, None)
        self._reloads.forget(replica_id)
        if replica_id in self._proven:
            self._proven.discard(replica_id)
            self._holders.remove_replica(replica_id)

    @property
    def any_proven(self) -> bool:
        """Whether tokens came back from any tier."""
        return bool(self._proven)

    def is_proven(self, replica_id: ReplicaId) -> bool:
        """Whether tokens came back from this replica's tier at any time."""
        return replica_id in self._proven

    def share(self, replica_id: ReplicaId) -> float:
        """Share of the tokens expected from a tier that came lately, 0 to 1; 0 for a tier that is not proven."""
        return self._reloads.share(replica_id)

    def match(self, block_hashes: Sequence[BlockHash]) -> PrefixMatch:
        """The proven tiers that contain a prefix of this prompt. Does not count as a use."""
        return self._holders.match(block_hashes) if self._proven else NOTHING

    def matched_blocks(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> int:
        """Leading blocks of a prompt that are in this replica's tier; 0 for a tier that is not proven."""
        return self.match(block_hashes).blocks_at(replica_id) if replica_id in self._proven else 0

    def on_computed(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """The replica has computed this prompt, so its tier has a copy, as the last used one."""
        if replica_id in self._proven:
            self._holders.insert(replica_id, block_hashes, placed=NO_WORK)

    def prove(self, replica_id: ReplicaId, held: Iterable[HeldRun]) -> None:
        """Tokens came back from a tier. The replica computed all of its GPU cache, so the tier has copies of it."""
        capacity_blocks = self._replica_to_capacity_blocks.get(replica_id)
        if capacity_blocks is not None and replica_id not in self._proven:
            self._proven.add(replica_id)
            self._holders.add_replica(replica_id, capacity_blocks=capacity_blocks)
            self._holders.adopt(replica_id, held, {})
            self._reloads.learn(replica_id, prompt_tokens=1, cached_tokens=1)  # the next ones weigh more

    def learn(self, replica_id: ReplicaId, *, expected_tokens: int, external_tokens: int) -> None:
        """Count the tokens that were expected from a proven tier, and those that came."""
        if replica_id in self._proven:
            self._reloads.learn(
                replica_id, prompt_tokens=max(expected_tokens, external_tokens), cached_tokens=external_tokens
            )

    def export(self, replica_id: ReplicaId) -> tuple[HeldRun, ...] | None:
        """A tier's estimated contents, for a router that joins; None for a tier that is not proven."""
        return self._holders.export(replica_id) if replica_id in self._proven else None

    def adopt(self, replica_id: ReplicaId, held: Iterable[HeldRun] | None) -> None:
        """Take over a peer's estimate of a tier, whose proof counts here, too; None if the peer had none."""
        if held is None:
            return
        if replica_id in self._proven:
            self._holders.adopt(replica_id, held, {})
        else:
            self.prove(replica_id, held)

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        assert self._proven <= self._replica_to_capacity_blocks.keys(), "a tier is proven, and has no capacity"
        self._holders.check_integrity()

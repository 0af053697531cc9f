"""The second tier of replicas: KV in the host's memory, which comes back for less than it costs to compute.

Engines with such a tier copy to it what they compute, and each tier evicts on its own what was used longest ago. So
what is believed of it is a second LRU beside the one of the GPU's cache (`Holders`), of the tier's own capacity, of
everything that was computed. Prompts that are only on their way are not in it: nothing was copied yet.

A tier that is configured may still never give anything back (vllm#46971: with speculative decoding; vllm#53498: lookups
never hit). So nothing is believed of it until its engine has reported tokens that came from there, and then only the
share of what was expected that lately came.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from router.account.reuse import Reuse
from router.belief.holders import NO_WORK, Holders, PrefixMatch
from router.state import HeldRun
from router.types import BlockHash, ReplicaId, RequestId

HOST_TOKENS_PER_S = 150_000.0
"""How fast tokens' KV comes back, unless told: 20 GB/s, as over PCIe 4.0 x16, and 128 KiB a token (2 x 32 layers x 8 KV
heads x 128 x 2 bytes, Llama 3.1 8B)."""

NOTHING = PrefixMatch((), 0)


class CachedTokens(NamedTuple):
    """Of a prompt, what a replica is believed to reuse."""

    local: int
    """From the cache on its GPU, at no cost."""
    external: int
    """From its second tier, for the time it takes to come back."""

    @property
    def total(self) -> int:
        """What need not be computed."""
        return self.local + self.external


class _Expected(NamedTuple):
    """When a request was sent to a replica with a proven tier."""

    replica_id: ReplicaId
    held_blocks: int
    """Leading blocks of the prompt that were believed in the tier."""


class Tiers:
    """Beliefs in the second tiers of all replicas that have one."""

    def __init__(self) -> None:
        self._holders = Holders()  # of those that are proven
        self._replica_to_capacity_blocks: dict[ReplicaId, int] = {}
        self._proven: set[ReplicaId] = set()
        self._reloads = Reuse()
        self._request_to_expected: dict[RequestId, _Expected] = {}

    def set_capacity(self, replica_id: ReplicaId, *, capacity_blocks: int) -> None:
        """A replica reports a second tier of this size; 0 for none."""
        if not capacity_blocks:
            self.remove(replica_id)
            return
        self._replica_to_capacity_blocks[replica_id] = capacity_blocks
        if replica_id in self._proven:
            self._holders.add_replica(replica_id, capacity_blocks=capacity_blocks)

    def remove(self, replica_id: ReplicaId) -> None:
        """The replica is gone, or its tier."""
        self._replica_to_capacity_blocks.pop(replica_id, None)
        self._reloads.forget(replica_id)
        expected = self._request_to_expected.items()
        self._request_to_expected = {request_id: each for request_id, each in expected if each.replica_id != replica_id}
        if replica_id in self._proven:
            self._proven.discard(replica_id)
            self._holders.remove_replica(replica_id)

    @property
    def any_proven(self) -> bool:
        """Whether something came back from any tier."""
        return bool(self._proven)

    def is_proven(self, replica_id: ReplicaId) -> bool:
        """Whether something came back from this replica's tier at any time."""
        return replica_id in self._proven

    def share(self, replica_id: ReplicaId) -> float:
        """Of what is expected from a tier, how much lately came, 0 to 1; 0 of one that is not proven."""
        return self._reloads.share(replica_id)

    def match(self, block_hashes: Sequence[BlockHash]) -> PrefixMatch:
        """Whose tier holds how much of this prompt; nobody's that is not proven. Does not count as a use."""
        return self._holders.match(block_hashes) if self._proven else NOTHING

    def matched_blocks(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> int:
        """Leading blocks of a prompt that are in this replica's tier."""
        return self.match(block_hashes).blocks_at(replica_id) if replica_id in self._proven else 0

    def on_computed(self, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """The replica has all of this prompt, and so has its tier, as what was used last."""
        if replica_id in self._proven:
            self._holders.insert(replica_id, block_hashes, placed=NO_WORK)

    def on_reserved(self, request_id: RequestId, replica_id: ReplicaId, block_hashes: Sequence[BlockHash]) -> None:
        """A request goes there; what is expected of the tier is what is believed now."""
        if replica_id in self._proven:
            held_blocks = self.matched_blocks(replica_id, block_hashes)
            self._request_to_expected[request_id] = _Expected(replica_id, held_blocks)

    def expected_blocks(self, request_id: RequestId) -> int:
        """Leading blocks that were believed in the tier when the request was sent there; asked once."""
        expected = self._request_to_expected.pop(request_id, None)
        return 0 if expected is None else expected.held_blocks

    def prove(self, replica_id: ReplicaId, held: Iterable[HeldRun]) -> None:
        """Something came back. What the replica holds otherwise was computed there too, so its tier has copies."""
        capacity_blocks = self._replica_to_capacity_blocks.get(replica_id)
        if capacity_blocks is not None and replica_id not in self._proven:
            self._proven.add(replica_id)
            self._holders.add_replica(replica_id, capacity_blocks=capacity_blocks)
            self._holders.adopt(replica_id, held, {})
            self._reloads.learn(replica_id, prompt_tokens=1, cached_tokens=1)  # the next ones weigh more

    def learn(self, replica_id: ReplicaId, *, expected_tokens: int, external_tokens: int) -> None:
        """So many tokens were expected from a proven tier, and so many came."""
        if replica_id in self._proven:
            self._reloads.learn(
                replica_id, prompt_tokens=max(expected_tokens, external_tokens), cached_tokens=external_tokens
            )

    def export(self, replica_id: ReplicaId) -> tuple[HeldRun, ...] | None:
        """What a tier is believed to hold, for a router that joins; None of one that is not proven."""
        return self._holders.export(replica_id) if replica_id in self._proven else None

    def adopt(self, replica_id: ReplicaId, held: Iterable[HeldRun] | None) -> None:
        """Believe what a peer believes, whose proof is as good as our own; None if it had none."""
        if held is None:
            return
        if replica_id in self._proven:
            self._holders.adopt(replica_id, held, {})
        else:
            self.prove(replica_id, held)

    @property
    def expecting(self) -> Collection[RequestId]:
        """Requests under way of which something may come from a tier."""
        return self._request_to_expected.keys()

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        assert self._proven <= self._replica_to_capacity_blocks.keys(), "a tier is proven, and has no capacity"
        assert all(each.replica_id in self._proven for each in self._request_to_expected.values())
        self._holders.check_integrity()

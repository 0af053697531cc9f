"""What could have been reused: one unbounded cache, in the order in which the requests were sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router import BlockHash, hash_blocks, root_hash
from router.keys.blocks import cacheable_tokens
from serve_app.demo.driver import Measurement

RequestKey = tuple[str, int]
"""Conversation and turn."""


@dataclass(frozen=True, slots=True)
class ReuseShare:
    """Token counts over one run."""

    reusable_tokens: int
    """What one unbounded cache would have reused, beyond the prefix common to all requests."""
    reused_tokens: int
    """What the engines did reuse of it."""

    @property
    def share(self) -> float:
        """Reused of reusable; 1 where there was nothing to reuse."""
        return self.reused_tokens / self.reusable_tokens if self.reusable_tokens else 1.0


class ReuseBound:
    """Knows every request's blocks.

    Args:
        prompts: token ids of each request.
        block_size: tokens in an engine block.

    """

    def __init__(self, prompts: Mapping[RequestKey, Sequence[int]], *, block_size: int) -> None:
        root = root_hash(model="", adapter="", tenant="", cache_salt="")
        self._block_size = block_size
        self._key_to_hashes = {
            key: hash_blocks(token_ids, block_size=block_size, root=root) for key, token_ids in prompts.items()
        }
        self._num_tokens = {key: len(token_ids) for key, token_ids in prompts.items()}
        self._num_common_blocks = _num_common(list(self._key_to_hashes.values()))

    @property
    def common_tokens(self) -> int:
        """Length of the prefix that all requests share, in full blocks."""
        return self._num_common_blocks * self._block_size

    @property
    def working_set_tokens(self) -> int:
        """Tokens of all different blocks: the cache that would hold the whole workload."""
        return len({each for hashes in self._key_to_hashes.values() for each in hashes}) * self._block_size

    def measure(self, run: Sequence[Measurement]) -> ReuseShare:
        """Compare what the engines reused with what was there to reuse."""
        seen: set[BlockHash] = set()
        reusable = reused = 0
        for each in sorted(run, key=lambda measurement: measurement.sent_at_s):
            key = (each.conversation, each.turn)
            hashes = self._key_to_hashes[key]
            num_seen = next((index for index, block in enumerate(hashes) if block not in seen), len(hashes))
            ideal = cacheable_tokens(self._num_tokens[key], num_blocks=num_seen, block_size=self._block_size)
            reusable += max(0, ideal - self.common_tokens)
            reused += max(0, min(each.cached_tokens, ideal) - self.common_tokens)
            seen.update(hashes)
        return ReuseShare(reusable, reused)


def _num_common(all_hashes: list[tuple[BlockHash, ...]]) -> int:
    shortest = min(len(hashes) for hashes in all_hashes)
    first = all_hashes[0]
    return next(
        (index for index in range(shortest) if any(hashes[index] != first[index] for hashes in all_hashes)), shortest
    )

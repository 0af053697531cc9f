"""What no routing can beat, and what it would be without routing: hit rates by the trace's order alone."""

from collections.abc import Sequence

from loadtests.replay.prefix_cache import PrefixCache
from loadtests.replay.trace import TraceRequest
from router.keys.blocks import cacheable_tokens


def infinite_hit_rate(requests: Sequence[TraceRequest], *, block_size: int) -> float:
    """Every block computed once: an upper bound for every order, routing and cache."""
    num_blocks = sum(len(request.block_hashes) for request in requests)
    num_distinct = len({block for request in requests for block in request.block_hashes})
    return (num_blocks - num_distinct) * block_size / _prompt_tokens(requests)


def pooled_hit_rate(requests: Sequence[TraceRequest], *, capacity_tokens: int, block_size: int) -> float:
    """One LRU of that size for all requests, one after the other: as if all replicas were one.

    Not a strict bound, because LRU is not the best rule of eviction: luck may beat it.
    """
    cache, cached_tokens = PrefixCache(capacity_blocks=capacity_tokens // block_size), 0
    for request in requests:
        cached_tokens += cacheable_tokens(
            request.num_prompt_tokens, num_blocks=cache.num_cached(request.block_hashes), block_size=block_size
        )
        cache.use(request.block_hashes)
    return cached_tokens / _prompt_tokens(requests)


def _prompt_tokens(requests: Sequence[TraceRequest]) -> int:
    return sum(request.num_prompt_tokens for request in requests)

"""Consistent-hash ring over replica ranks, and the bounded-load rule that goes with it.

Karger et al., "Consistent Hashing and Random Trees" (STOC 1997); bounded loads after Mirrokni,
Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018).
"""

from bisect import bisect_left
from collections.abc import Collection

import xxhash

from router.types import BlockHash


class Ring:
    """Immutable. Each rank owns `virtual_nodes` points; a key belongs to the first point clockwise."""

    def __init__(self, ranks: Collection[int], *, virtual_nodes: int) -> None:
        # The separator keeps rank 1, node 10 apart from rank 11, node 0.
        points = sorted(
            (xxhash.xxh3_64_intdigest(f"{rank}/{node}".encode()), rank)
            for rank in set(ranks)
            for node in range(virtual_nodes)
        )
        self._point_hashes = [point for point, _ in points]
        self._point_ranks = [rank for _, rank in points]
        self._num_ranks = len(set(ranks))
        self._successors: dict[int, tuple[int, ...]] = {}

    def successors(self, key: BlockHash) -> tuple[int, ...]:
        """Every rank once, in clockwise order from `key`: the owner first, then who would take over."""
        if not self._point_hashes:
            return ()
        start = bisect_left(self._point_hashes, key) % len(self._point_hashes)
        if start not in self._successors:  # at most one entry a point
            self._successors[start] = self._walk(start)
        return self._successors[start]

    def _walk(self, start: int) -> tuple[int, ...]:
        seen: dict[int, None] = {}
        for offset in range(len(self._point_ranks)):
            seen[self._point_ranks[(start + offset) % len(self._point_ranks)]] = None
            if len(seen) == self._num_ranks:
                break
        return tuple(seen)


def within_bound(load_tokens: float, *, mean_load_tokens: float, load_factor: float, margin_tokens: int) -> bool:
    """Whether a replica may take more: its load exceeds the mean by the factor AND by the margin otherwise.

    Tested on the load *before* insertion: the least loaded replica is never above the mean, so with
    load_factor >= 1 and margin >= 0 some replica always passes, whatever the request's size.
    """
    return load_tokens <= max(load_factor * mean_load_tokens, mean_load_tokens + margin_tokens)

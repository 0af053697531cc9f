"""Consistent-hash ring over replica ranks, and the bounded-load rule that goes with it.

Karger et al., "Consistent Hashing and Random Trees" (STOC 1997); bounded loads after Mirrokni,
Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018).
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator
from itertools import chain

import xxhash

from router.types import BlockHash

RING_SIZE = 2**64


class Ring:
    """An immutable ring. Each rank owns `virtual_nodes` points; a key belongs to the first point clockwise."""

    def __init__(self, ranks: Collection[int], *, virtual_nodes: int) -> None:
        # The separator keeps rank 1, node 10 apart from rank 11, node 0.
        points = sorted(
            (xxhash.xxh3_64_intdigest(f"{rank}/{node}".encode()), rank)
            for rank in set(ranks)
            for node in range(virtual_nodes)
        )
        self._point_hashes = [point for point, _ in points]
        self._point_ranks = [rank for _, rank in points]
        self._rank_to_points: dict[int, list[int]] = {}
        for point, rank in points:
            self._rank_to_points.setdefault(rank, []).append(point)
        self._rank_to_keys = dict.fromkeys(self._rank_to_points, 0)
        before = self._point_hashes[-1] - RING_SIZE if points else 0
        for point, rank in points:
            self._rank_to_keys[rank] += point - before
            before = point

    def successors(self, key: BlockHash) -> Iterator[int]:
        """Every rank once, in clockwise order from `key`: the owner first, then the ranks that would take over."""
        start = bisect_left(self._point_hashes, key)
        seen: set[int] = set()
        for position in chain(range(start, len(self._point_ranks)), range(start)):
            rank = self._point_ranks[position]
            if rank not in seen:
                yield rank
                seen.add(rank)
                if len(seen) == len(self._rank_to_points):
                    return

    def share(self, rank: int) -> float:
        """Share of all keys that belong to this rank, 0 to 1."""
        return self._rank_to_keys[rank] / RING_SIZE

    def distance(self, key: BlockHash, rank: int) -> int:
        """Distance clockwise from `key` to a rank's next point; ranks in the order of it are the key's successors."""
        points = self._rank_to_points[rank]
        return (points[bisect_left(points, key) % len(points)] - key) % RING_SIZE


def bound(mean_load_tokens: float, *, load_factor: float, margin_tokens: int) -> float:
    """The load up to which a replica may take more: the mean times the factor or plus the margin, whichever is more.

    It is for the load *before* insertion. The least loaded replica is never above the mean, so with load_factor >= 1
    and margin >= 0 some replica always passes, whatever the request's size.
    """
    return max(load_factor * mean_load_tokens, mean_load_tokens + margin_tokens)

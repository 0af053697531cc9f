"""The beginnings that most of the recent work has in common, for operators to see."""

import heapq
import itertools
from collections.abc import Iterable
from typing import NamedTuple

from router.belief.prefix_tree import Run
from router.types import BlockHash, ReplicaId

SHARED_FROM_NUM_ENDS = 4
"""So many prompts ending in one block are several requests with a common beginning and short questions; a
conversation's own turns are seldom that short."""
MAX_SIBLINGS = 512
"""Of more, the oldest and the newest are looked at, half of each: where nothing is shared, they are as many as prompts,
and no decision shall wait for them."""


class HotPrefix(NamedTuple):
    """A beginning at which prompts part."""

    block_hash: BlockHash
    """Of its last block, which stands for all of it."""
    num_blocks: int
    work_share: float
    """Of all recent work, that for prompts which begin so, 0 to 1."""
    fan_out: int
    """For how many replicas that is."""
    replica_ids: tuple[ReplicaId, ...]
    """Who holds it."""


def hot_prefixes(beginnings: dict[int, Run], *, limit: int, total_work: float) -> list[HotPrefix]:
    """Of a tree with these first runs, the hottest first.

    A run's work is part of its parent's, so that the hottest are found from the top without a look at the others.
    """
    found: list[HotPrefix] = []
    heap: list[tuple[float, int, int, Run]] = []
    order = itertools.count()

    def offer(siblings: dict[int, Run], start: int) -> None:
        for run in _some(siblings):
            if run.work > 0 and (run.children or run.num_ends >= SHARED_FROM_NUM_ENDS):  # most runs are neither
                heapq.heappush(heap, (-run.work, next(order), start + len(run), run))

    offer(beginnings, 0)
    while heap and len(found) < limit:
        _, _, num_blocks, run = heapq.heappop(heap)
        if _is_shared(run):
            work_share = min(1.0, run.work / total_work) if total_work else 0.0
            holders = tuple(sorted(run.holder_to_use))
            found.append(HotPrefix(BlockHash(run.hashes[-1]), num_blocks, work_share, run.fan_out, holders))
        offer(run.children, num_blocks)
    return found


def _some(siblings: dict[int, Run]) -> Iterable[Run]:
    if len(siblings) <= MAX_SIBLINGS:
        return siblings.values()
    half = MAX_SIBLINGS // 2
    runs = siblings.values()
    return itertools.chain(itertools.islice(runs, half), itertools.islice(reversed(runs), half))


def _is_shared(run: Run) -> bool:
    return run.num_ends >= SHARED_FROM_NUM_ENDS or sum(child.is_prompt for child in run.children.values()) > 1

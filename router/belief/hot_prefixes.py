"""The prefixes that most of the recent work has in common, for operators to see."""

import heapq
import itertools
from collections.abc import Iterable
from typing import NamedTuple

from router.belief.prefix_tree import Run
from router.types import BlockHash, ReplicaId

SHARED_FROM_NUM_ENDS = 4
"""This many prompts that end in one block are several requests with a common prefix and short questions. A
conversation's own turns are seldom that short."""
MAX_SIBLINGS = 512
"""Siblings that are examined, at most: the oldest and the newest, half of each. Where nothing is shared, there are as
many as prompts, and no decision must wait for them."""


class HotPrefix(NamedTuple):
    """A prefix after which prompts differ."""

    block_hash: BlockHash
    """Hash of its last block, which stands for the whole prefix."""
    num_blocks: int
    work_share: float
    """Share of prompts with this prefix in all recent work, 0 to 1."""
    fan_out: int
    """The number of replicas that this work is for."""
    replica_ids: tuple[ReplicaId, ...]
    """The replicas that have it cached."""


def hot_prefixes(first_runs: dict[int, Run], *, limit: int, total_work: float) -> list[HotPrefix]:
    """The hot prefixes of a tree with these first runs, the hottest first.

    A run's work is part of its parent's, so the hottest ones are found from the top without a look at the others.
    """
    found: list[HotPrefix] = []
    heap: list[tuple[float, int, int, Run]] = []
    order = itertools.count()

    def offer(siblings: dict[int, Run], start: int) -> None:
        for run in _some(siblings):
            if run.work > 0 and (run.children or run.num_ends >= SHARED_FROM_NUM_ENDS):  # as a rule, a run is neither
                heapq.heappush(heap, (-run.work, next(order), start + len(run), run))

    offer(first_runs, 0)
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

"""Prompts through one prefix cache, in the order of the log: what an engine with that much memory would have reused."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from router import BlockHash, ReplicaId
from router.belief.eviction import EvictionOrder
from router.belief.prefix_tree import PrefixTree, Run

THE_CACHE = ReplicaId("cache")


class Keys(NamedTuple):
    """A prompt's length and the hashes of its blocks."""

    num_tokens: int
    block_hashes: Sequence[BlockHash]


class Sums(NamedTuple):
    """Totals of a replay."""

    num_requests: int
    offered_tokens: int
    cached_tokens: int

    @property
    def hit_rate(self) -> float:
        """Cached of all prompt tokens."""
        return self.cached_tokens / self.offered_tokens if self.offered_tokens else 0.0

    @property
    def computed_tokens(self) -> int:
        """All that were not cached."""
        return self.offered_tokens - self.cached_tokens


class Branch(NamedTuple):
    """A stretch of blocks that several prompts begin with."""

    depth: int
    """How many stretches come before it."""
    start_blocks: int
    num_blocks: int
    num_requests: int
    num_ways_on: int
    """Number of ways in which prompts go on after it, whether one request goes on like that or several."""


class CacheReplay:
    """Least recently used out, leaves before stems, as vLLM does; every prompt is over before the next one comes.

    Args:
        capacity_tokens: of the cache.
        block_size: in tokens; only full blocks are reused, and of a prompt never the last token.

    """

    def __init__(self, *, capacity_tokens: int, block_size: int) -> None:
        self._block_size = block_size
        self._tree = PrefixTree()
        self._uses = EvictionOrder(THE_CACHE, self._tree)
        self._uses.capacity_blocks = max(1, capacity_tokens // block_size)
        self.sums = Sums(0, 0, 0)

    def add(self, keys: Keys) -> int:
        """The next prompt; returns how many of its tokens were there."""
        num_tokens, block_hashes = keys
        fitting = block_hashes[: self._uses.capacity_blocks]
        cached_tokens = 0
        if fitting:
            steps = self._tree.path(fitting)
            end = steps[-1].end if steps else 0
            cached_tokens = min(end, (num_tokens - 1) // self._block_size) * self._block_size
            runs = self._tree.grow(fitting, steps)
            for run in runs:
                run.work += 1
            runs[-1].num_ends += 1
            self._uses.use(runs)
            self._uses.fit()
        before = self.sums
        self.sums = Sums(
            before.num_requests + 1, before.offered_tokens + num_tokens, before.cached_tokens + cached_tokens
        )
        return cached_tokens

    def branches(self, limit: int) -> list[Branch]:
        """The stretches in the cache that saved most, each after those before it."""
        runs = sorted(_shared(self._tree), key=lambda run: -(run.work - 1) * len(run))[:limit]
        chosen = {id(run) for run in runs}
        for run in runs:
            chosen.update(id(each) for each in self._tree.path_to(run))
        return list(self._branches(self._tree.first_runs.values(), chosen, 0, 0))

    def _branches(self, runs: Iterable[Run], chosen: set[int], depth: int, start: int) -> Iterator[Branch]:
        for run in sorted(runs, key=lambda each: -each.work):
            if id(run) in chosen:
                ways_on = len(run.children) + (run.num_ends > 0)
                yield Branch(depth, start, len(run), round(run.work), ways_on)
                yield from self._branches(run.children.values(), chosen, depth + 1, start + len(run))


def _shared(tree: PrefixTree) -> Iterator[Run]:
    return (run for run in tree.runs() if run.work > 1)

"""The blocks that one replica's engine has by its KV events, and nothing that is estimated or expected.

vLLM tells of blocks when they are scheduled to be full (`BlockPool.cache_full_blocks`: a chain and its parent) and one
by one when their memory is taken for another block (`_maybe_evict_cached_block`: deepest first, as a request's blocks
were freed). Two requests may compute the same block at the same time; then it is stored twice, in two places, and
removed twice. It is gone when its last copy is.

A block can be reused only if all blocks before it are there. Blocks of which that is true are in the tree. Blocks whose
parent is missing (evicted before them, or never told of) are set aside, and come back with it.
"""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence

from router.belief.eviction import EvictionOrder
from router.belief.prefix_tree import PrefixTree, Run
from router.types import BlockHash

Prompts = Collection[Sequence[BlockHash]]


class KvContents:
    """Keeps `uses` to the stored blocks, and the promised ones: the prompts that are outstanding at the replica.

    Args:
        uses: the replica's uses.
        tree: the tree with their runs.

    """

    def __init__(self, uses: EvictionOrder, tree: PrefixTree) -> None:
        self._uses = uses
        self._tree = tree
        # A block is in its run or, after a split of that, in a run before it. Runs need not know of this map.
        self._hash_to_run: dict[int, Run] = {}
        self._hash_to_further_copies: dict[int, int] = {}
        self._aside = _Aside()
        self.num_copies = 0
        """Blocks of memory that are in use by the events."""

    def num_stored(self, block_hashes: Sequence[BlockHash]) -> int:
        """The longest prefix of a prompt that can be reused, in blocks."""
        return bisect_left(block_hashes, 1, key=lambda block_hash: block_hash not in self._hash_to_run)

    def store(self, parent: BlockHash | None, block_hashes: Sequence[BlockHash]) -> None:
        """Add a chain of blocks on top of `parent`, or at the prompts' start if there is none."""
        self.num_copies += len(block_hashes)
        for block_hash in block_hashes:
            if block_hash in self._hash_to_run or block_hash in self._aside:
                self._hash_to_further_copies[block_hash] = self._hash_to_further_copies.get(block_hash, 0) + 1
        if parent is not None and parent not in self._hash_to_run:
            self._aside.add_chain(parent, block_hashes)
            return
        self._place(parent, block_hashes)
        for returning, its_parent in self._aside.take_back(block_hashes):
            self._place(its_parent, [returning])

    def remove(self, block_hashes: Sequence[BlockHash], promised: Prompts) -> None:
        """Remove blocks, in any order; unknown ones are ignored. Promised blocks stay cached, though not stored."""
        gone = self._forget_copies(block_hashes)
        for block_hash in block_hashes:
            if block_hash in gone and block_hash in self._hash_to_run:  # not yet cut off with another one
                self._cut_off(block_hash, gone, promised)

    def _forget_copies(self, block_hashes: Sequence[BlockHash]) -> set[int]:
        """Remove one copy of each. Returns the placed blocks of which no copy is left."""
        gone: set[int] = set()
        for block_hash in block_hashes:
            further_copies = self._hash_to_further_copies.get(block_hash)
            if further_copies is not None:
                self._hash_to_further_copies[block_hash] = further_copies - 1
                if further_copies == 1:
                    del self._hash_to_further_copies[block_hash]
            elif block_hash in self._hash_to_run and block_hash not in gone:
                gone.add(block_hash)
            elif block_hash in self._aside:
                self._aside.discard(block_hash)
            else:
                continue
            self.num_copies -= 1
        return gone

    def _place(self, parent: int | None, block_hashes: Sequence[int]) -> None:
        prefix = array("Q")
        if parent is not None:
            run, position = self._find(parent)
            if self._can_grow(run, position, block_hashes):
                self._uses.lengthen(run, block_hashes)
                self._hash_to_run.update(dict.fromkeys(block_hashes, run))
                return
            prefix = self._tree.prefix(run, position + 1)
        prefix.extend(block_hashes)
        runs = self._tree.grow(prefix)
        if not runs[-1].holder_to_use:  # no prompt asked for it
            runs[-1].is_prompt = False
        self._uses.use(runs)
        for block_hash in block_hashes:
            self._hash_to_run.setdefault(block_hash, runs[-1])

    def _can_grow(self, run: Run, position: int, block_hashes: Sequence[int]) -> bool:
        """Whether blocks at the end of a run can join it: the run is an answer, which fills block by block."""
        is_end = position + 1 == len(run) and not run.children
        return is_end and not run.is_prompt and len(run.holder_to_use) == 1 and block_hashes[0] not in self._hash_to_run

    def _find(self, block_hash: int) -> tuple[Run, int]:
        """The run that contains a block, and the block's position in it."""
        run: Run | None = self._hash_to_run[block_hash]
        while run is not None:
            if run.hashes and run.hashes[-1] == block_hash:  # as a rule, the block is an end
                return run, len(run) - 1
            if block_hash in run.hashes:
                return run, run.hashes.index(block_hash)
            run = run.parent
        raise AssertionError(f"block {block_hash} is placed, and in no run")

    def _cut_off(self, block_hash: int, gone: set[int], promised: Prompts) -> None:
        """Drop a block, all blocks that build on it, and the gone blocks before it in its run."""
        run, end = self._find(block_hash)
        start = end
        while start > 0 and run.hashes[start - 1] in gone:
            start -= 1
        first = run.hashes[start]
        kept_ids: set[int] = set()
        if promised:
            depth = self._tree.depth(run) + start
            kept_ids = self._keep(prompt for prompt in promised if len(prompt) > depth and prompt[depth] == first)
        if kept_ids:  # which may have split the run
            run, start = self._find(first)
        below = self._below(run)
        self._unplace(run.hashes[start:], None, gone)
        for child in below:
            assert child.parent is not None
            self._unplace(child.hashes, child.parent.hashes[-1], gone)
        for child in reversed(below):
            if id(child) not in kept_ids:
                self._uses.cut(child, 0)
        if id(run) not in kept_ids:
            self._uses.cut(run, start)

    def _keep(self, prompts: Iterable[Sequence[BlockHash]]) -> set[int]:
        """Keep all of these prompts cached. Returns the ids of their runs."""
        ids: set[int] = set()
        for prompt in prompts:
            fitting = prompt[: self._uses.capacity_blocks]
            if fitting:
                runs = self._tree.grow(fitting)
                self._uses.use(runs)
                ids.update(map(id, runs))
        return ids

    def _below(self, run: Run) -> list[Run]:
        """Every cached run that builds on a run, parents first."""
        below = self._uses.children(run)
        for child in below:  # which grows during the loop
            below.extend(self._uses.children(child))
        return below

    def _unplace(self, block_hashes: Sequence[int], parent: int | None, gone: Collection[int]) -> None:
        """Take out these blocks of a run, which cannot be reached any more. Those that are not gone may be again."""
        for block_hash in block_hashes:
            if self._hash_to_run.pop(block_hash, None) is not None and block_hash not in gone:
                assert parent is not None, "the first block that is cut off is gone"
                self._aside.add_chain(parent, [block_hash])
            parent = block_hash

    def stored(self) -> Collection[int]:
        """Every block that can be reused."""
        return self._hash_to_run.keys()

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        self._aside.check_integrity()
        num_further = sum(self._hash_to_further_copies.values())
        assert self.num_copies == len(self._hash_to_run) + len(self._aside) + num_further, "copies are miscounted"
        for block_hash in self._hash_to_run:
            run, position = self._find(block_hash)
            assert self._uses.replica_id in run.holder_to_use, f"block {block_hash} is stored and not cached"
            prefix = self._tree.prefix(run, position)
            assert not prefix or prefix[-1] in self._hash_to_run, f"block {block_hash} is placed without its parent"
        for block_hash in self._aside.parents():
            assert block_hash not in self._hash_to_run, f"what builds on block {block_hash} is aside, though it is back"


class _Aside:
    """Blocks whose parent is missing, by their own hash and by their parent's. Nearly always empty."""

    def __init__(self) -> None:
        self._hash_to_parent: dict[int, int] = {}
        self._parent_to_hashes: dict[int, set[int]] = {}

    def __contains__(self, block_hash: object) -> bool:
        return block_hash in self._hash_to_parent

    def __len__(self) -> int:
        return len(self._hash_to_parent)

    def parents(self) -> Collection[int]:
        """Missing blocks on which the blocks here build."""
        return self._parent_to_hashes.keys()

    def add_chain(self, parent: int, block_hashes: Sequence[int]) -> None:
        """Set blocks aside, each on top of the one before."""
        for block_hash in block_hashes:
            if block_hash not in self._hash_to_parent:
                self._hash_to_parent[block_hash] = parent
                self._parent_to_hashes.setdefault(parent, set()).add(block_hash)
            parent = block_hash

    def discard(self, block_hash: int) -> None:
        """Remove a block that is here."""
        parent = self._hash_to_parent.pop(block_hash)
        siblings = self._parent_to_hashes[parent]
        siblings.discard(block_hash)
        if not siblings:
            del self._parent_to_hashes[parent]

    def take_back(self, placed: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Take out the blocks that can be placed now that these are, each with its parent, which comes before it."""
        for block_hash in placed:
            if block_hash in self._hash_to_parent:
                self.discard(block_hash)
        pending = list(placed)
        while pending and self._parent_to_hashes:
            parent = pending.pop()
            for block_hash in self._parent_to_hashes.pop(parent, ()):
                del self._hash_to_parent[block_hash]
                yield block_hash, parent
                pending.append(block_hash)

    def check_integrity(self) -> None:
        """Assert that both views show the same blocks."""
        shown = {(block_hash, parent) for parent, hashes in self._parent_to_hashes.items() for block_hash in hashes}
        assert shown == set(self._hash_to_parent.items())
        assert all(self._parent_to_hashes.values())

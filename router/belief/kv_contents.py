"""What one replica's engine says it has: its KV events, and nothing that is believed or expected.

vLLM tells of blocks when they are scheduled to be full (`BlockPool.cache_full_blocks`: a chain and its parent) and one
by one when their memory is taken for something else (`_maybe_evict_cached_block`: deepest first, as a request's blocks
were freed). Two requests may compute the same block at a time; then it is stored twice, in two places, and removed
twice. It is gone when the last copy is.

A block can be reused only if all before it are there. Blocks of which that is true are in the tree; those whose parent
is not (evicted before them, or never told of) are set aside, and come back with it.
"""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence

from router.belief.prefix_tree import PrefixTree, Run
from router.belief.uses import Uses
from router.types import BlockHash

Prompts = Collection[Sequence[BlockHash]]


class KvContents:
    """Keeps `uses` to what is stored, and to what is promised: the prompts that are outstanding at the replica.

    Args:
        uses: the replica's.
        tree: in which the uses' runs are.

    """

    def __init__(self, uses: Uses, tree: PrefixTree) -> None:
        self._uses = uses
        self._tree = tree
        # A block is in its run or, after that was split, in one before it. Runs need not know of this.
        self._hash_to_run: dict[int, Run] = {}
        self._hash_to_further_copies: dict[int, int] = {}
        self._aside = _Aside()
        self.num_copies = 0
        """Blocks of memory that are told to be in use."""

    def num_stored(self, block_hashes: Sequence[BlockHash]) -> int:
        """How much of a prompt can be reused, in blocks."""
        return bisect_left(block_hashes, 1, key=lambda each: each not in self._hash_to_run)

    def store(self, parent: BlockHash | None, block_hashes: Sequence[BlockHash]) -> None:
        """A chain of blocks on top of `parent`, or from the prompts' start if there is none."""
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
        """Blocks in any order; unknown ones are passed over. What is promised stays held, though it is not stored."""
        gone = self._forget_copies(block_hashes)
        for block_hash in block_hashes:
            if block_hash in gone and block_hash in self._hash_to_run:  # not cut off with another
                self._cut_off(block_hash, gone, promised)

    def _forget_copies(self, block_hashes: Sequence[BlockHash]) -> set[int]:
        """Returns the placed blocks of which no copy is left."""
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
        if not runs[-1].holder_to_use:  # nobody asked for it
            runs[-1].is_prompt = False
        self._uses.use(runs)
        for block_hash in block_hashes:
            self._hash_to_run.setdefault(block_hash, runs[-1])

    def _can_grow(self, run: Run, position: int, block_hashes: Sequence[int]) -> bool:
        """Whether blocks at the end of a run can become a part of it: of an answer, which fills block after block."""
        is_end = position + 1 == len(run) and not run.children
        return is_end and not run.is_prompt and len(run.holder_to_use) == 1 and block_hashes[0] not in self._hash_to_run

    def _find(self, block_hash: int) -> tuple[Run, int]:
        """The run in which a block is, and where in it."""
        run: Run | None = self._hash_to_run[block_hash]
        while run is not None:
            if run.hashes and run.hashes[-1] == block_hash:  # most that is asked for is an end
                return run, len(run) - 1
            if block_hash in run.hashes:
                return run, run.hashes.index(block_hash)
            run = run.parent
        raise AssertionError(f"block {block_hash} is placed, and in no run")

    def _cut_off(self, block_hash: int, gone: set[int], promised: Prompts) -> None:
        """A block and all that builds on it is held no more, nor what is gone before it in its run."""
        run, end = self._find(block_hash)
        start = end
        while start > 0 and run.hashes[start - 1] in gone:
            start -= 1
        first = run.hashes[start]
        kept_ids: set[int] = set()
        if promised:
            depth = self._tree.depth(run) + start
            kept_ids = self._hold(each for each in promised if len(each) > depth and each[depth] == first)
        if kept_ids:  # which may have split the run
            run, start = self._find(first)
        below = self._below(run)
        self._unplace(run.hashes[start:], None, gone)
        for each in below:
            assert each.parent is not None
            self._unplace(each.hashes, each.parent.hashes[-1], gone)
        for each in reversed(below):
            if id(each) not in kept_ids:
                self._uses.cut(each, 0)
        if id(run) not in kept_ids:
            self._uses.cut(run, start)

    def _hold(self, prompts: Iterable[Sequence[BlockHash]]) -> set[int]:
        """Hold all of these prompts; returns the ids of their runs."""
        ids: set[int] = set()
        for prompt in prompts:
            fitting = prompt[: self._uses.capacity_blocks]
            if fitting:
                runs = self._tree.grow(fitting)
                self._uses.use(runs)
                ids.update(map(id, runs))
        return ids

    def _below(self, run: Run) -> list[Run]:
        """What is held and builds on a run, parents first."""
        below = self._uses.children(run)
        for each in below:  # which grows meanwhile
            below.extend(self._uses.children(each))
        return below

    def _unplace(self, block_hashes: Sequence[int], parent: int | None, gone: Collection[int]) -> None:
        """These blocks of a run cannot be reached any more; those that are not gone may be again."""
        for block_hash in block_hashes:
            if self._hash_to_run.pop(block_hash, None) is not None and block_hash not in gone:
                assert parent is not None, "the first block that is cut off is gone"
                self._aside.add_chain(parent, [block_hash])
            parent = block_hash

    def stored(self) -> Collection[int]:
        """All blocks that can be reused."""
        return self._hash_to_run.keys()

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        self._aside.check_integrity()
        num_further = sum(self._hash_to_further_copies.values())
        assert self.num_copies == len(self._hash_to_run) + len(self._aside) + num_further, "copies are miscounted"
        for block_hash in self._hash_to_run:
            run, position = self._find(block_hash)
            assert self._uses.replica_id in run.holder_to_use, f"block {block_hash} is stored and not held"
            prefix = self._tree.prefix(run, position)
            assert not prefix or prefix[-1] in self._hash_to_run, f"block {block_hash} is placed without its parent"
        for block_hash in self._aside.parents():
            assert block_hash not in self._hash_to_run, f"what builds on block {block_hash} is aside, though it is back"


class _Aside:
    """Blocks whose parent is missing, by themselves and by their parent. Nearly always empty."""

    def __init__(self) -> None:
        self._hash_to_parent: dict[int, int] = {}
        self._parent_to_hashes: dict[int, set[int]] = {}

    def __contains__(self, block_hash: object) -> bool:
        return block_hash in self._hash_to_parent

    def __len__(self) -> int:
        return len(self._hash_to_parent)

    def parents(self) -> Collection[int]:
        """Blocks for which others wait."""
        return self._parent_to_hashes.keys()

    def add_chain(self, parent: int, block_hashes: Sequence[int]) -> None:
        """Each on top of the one before."""
        for block_hash in block_hashes:
            if block_hash not in self._hash_to_parent:
                self._hash_to_parent[block_hash] = parent
                self._parent_to_hashes.setdefault(parent, set()).add(block_hash)
            parent = block_hash

    def discard(self, block_hash: int) -> None:
        """One that is here leaves."""
        parent = self._hash_to_parent.pop(block_hash)
        siblings = self._parent_to_hashes[parent]
        siblings.discard(block_hash)
        if not siblings:
            del self._parent_to_hashes[parent]

    def take_back(self, placed: Sequence[int]) -> Iterator[tuple[int, int]]:
        """With these blocks placed, those that can be placed too, each with its parent, which comes before it."""
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
        """Assert that both views show the same."""
        shown = {(each, parent) for parent, hashes in self._parent_to_hashes.items() for each in hashes}
        assert shown == set(self._hash_to_parent.items())
        assert all(self._parent_to_hashes.values())

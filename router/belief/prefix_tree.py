"""The prefixes that are known, as a tree of runs, and who holds each.

A run is a stretch of consecutive blocks that have always been used together, so a conversation of five turns is five
runs, however long its prompts are. Because a block's hash is chained with its parent's, one comparison at the end of a
run compares all of it. Matching and marking a prompt therefore cost a few steps a run, and 8 bytes a block are kept
(the radix tree of SGLang's RadixAttention, Zheng et al. 2024, over block hashes instead of tokens).
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from router.types import ReplicaId


class Run:
    """Consecutive blocks with the same holders. Held at a replica only if its parent is."""

    __slots__ = ("children", "fan_out", "hashes", "holder_to_use", "is_prompt", "num_ends", "parent", "work")

    def __init__(self, hashes: "array[int]", parent: "Run | None") -> None:
        self.hashes = hashes
        self.parent = parent
        self.children: dict[int, Run] = {}
        """By their first block."""
        self.holder_to_use: dict[ReplicaId, int] = {}
        """Each holder's last use of this run, as a number that its uses of other runs share."""
        self.num_ends = 0
        """Prompts whose last full block is this run's last."""
        self.work = 0.0
        """Recent work of all prompts that begin with this run, as `Fading` stores it."""
        self.fan_out = 1
        """How many replicas that work is for."""
        self.is_prompt = True
        """Whether a prompt begins with this run. If not, an engine told of it: an answer, as a rule."""

    def __len__(self) -> int:
        return len(self.hashes)


class Step(NamedTuple):
    """A run on a prompt's path."""

    run: Run
    end: int
    """How deep the prompt and the run agree, in blocks from the prompt's start."""
    is_whole: bool
    """Whether they agree on all of the run."""


class PrefixTree:
    """Every run has a holder; one that loses its last is gone."""

    def __init__(self) -> None:
        self._root = Run(array("Q"), None)

    def path(self, block_hashes: Sequence[int]) -> list[Step]:
        """The runs that begin like the prompt, from its start on. Only the last one may be there in part."""
        steps = []
        run, end, num_blocks = self._root, 0, len(block_hashes)
        while end < num_blocks:
            child = run.children.get(block_hashes[end])
            if child is None:
                break
            start, run = end, child
            end += agreement(run.hashes, block_hashes, start)
            is_whole = end - start == len(run)
            steps.append(Step(run, end, is_whole))
            if not is_whole:
                break
        return steps

    def grow(self, block_hashes: Sequence[int], steps: Sequence[Step] | None = None) -> list[Run]:
        """The runs that are exactly this prompt, made where they are missing; the new one has no holder yet.

        `steps` are its `path`, if that is known already.
        """
        steps = self.path(block_hashes) if steps is None else steps
        runs = [step.run for step in steps]
        end = 0
        if steps:
            end = steps[-1].end
            if not steps[-1].is_whole:
                runs[-1] = self.split(runs[-1], end - (steps[-2].end if len(steps) > 1 else 0))
        if end < len(block_hashes):
            parent = runs[-1] if runs else self._root
            run = Run(array("Q", block_hashes[end:]), parent)
            parent.children[run.hashes[0]] = run
            runs.append(run)
        return runs

    def path_to(self, run: Run) -> list[Run]:
        """The run and all before it, the first one first."""
        runs = []
        while not self.is_root(run):
            runs.append(run)
            assert run.parent is not None
            run = run.parent
        runs.reverse()
        return runs

    def split(self, run: Run, num_blocks: int) -> Run:
        """Make the first `num_blocks` of a run one of their own, which is returned; the run keeps the rest."""
        assert run.parent is not None
        upper = Run(run.hashes[:num_blocks], run.parent)
        upper.holder_to_use = dict(run.holder_to_use)
        upper.work, upper.fan_out, upper.is_prompt = run.work, run.fan_out, run.is_prompt
        run.parent.children[upper.hashes[0]] = upper
        run.hashes = run.hashes[num_blocks:]
        run.parent = upper
        upper.children[run.hashes[0]] = run
        return upper

    def release(self, run: Run, replica_id: ReplicaId) -> None:
        """The replica does not hold the run any more, nor anything below it."""
        del run.holder_to_use[replica_id]
        if not run.holder_to_use:
            assert not run.children, "a run that nobody holds has children"
            assert run.parent is not None
            del run.parent.children[run.hashes[0]]
            del run.hashes[:]  # whoever still refers to it does so for its parent

    def depth(self, run: Run) -> int:
        """How many blocks come before a run."""
        num_blocks = 0
        while run.parent is not None:
            run = run.parent
            num_blocks += len(run)
        return num_blocks

    def prefix(self, run: Run, num_blocks: int) -> "array[int]":
        """All blocks from the prompts' start to the first `num_blocks` of this run."""
        stretches = [run.hashes[:num_blocks]]
        while run.parent is not None:
            run = run.parent
            stretches.append(run.hashes)
        prefix = array("Q")
        for stretch in reversed(stretches):
            prefix.extend(stretch)
        return prefix

    def is_root(self, run: Run) -> bool:
        """Whether this is the start of all prompts, which has no blocks and no holders."""
        return run is self._root

    @property
    def beginnings(self) -> dict[int, Run]:
        """The runs that prompts start with, by their first block."""
        return self._root.children

    def runs(self) -> Iterator[Run]:
        """All of them, parents first."""
        pending = list(self._root.children.values())
        while pending:
            run = pending.pop()
            yield run
            pending.extend(run.children.values())

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        for run in self.runs():
            parent = run.parent
            assert parent is not None
            assert len(run) > 0, "a run without blocks"
            assert parent.children[run.hashes[0]] is run
            assert run.holder_to_use, "a run that nobody holds"
            if not self.is_root(parent):
                missing = run.holder_to_use.keys() - parent.holder_to_use.keys()
                assert not missing, f"{missing} hold a run and not its parent"


def agreement(hashes: Sequence[int], block_hashes: Sequence[int], start: int) -> int:
    """How many of a run's blocks the prompt has from `start` on. Equal hash means equal prefix: search by halves."""
    low, high = 0, min(len(hashes), len(block_hashes) - start)
    if hashes[high - 1] == block_hashes[start + high - 1]:
        return high
    while low < high:
        middle = (low + high) // 2
        if hashes[middle] == block_hashes[start + middle]:
            low = middle + 1
        else:
            high = middle
    return low

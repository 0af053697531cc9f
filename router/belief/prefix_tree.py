"""The known prefixes as a tree of runs, and the holders of each run: the replicas that have it cached.

A run is a stretch of consecutive blocks that have always been used together. So a conversation of five turns is five
runs, however long its prompts are. Because a block's hash is chained with its parent's, one comparison at the end of a
run compares all of it. Matching and marking a prompt therefore cost a few steps a run, and 8 bytes a block are kept
(the radix tree of SGLang's RadixAttention, Zheng et al. 2024, over block hashes instead of tokens).
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from router.types import ReplicaId


class Run:
    """Consecutive blocks with the same holders. A replica that holds a run holds its parent, too."""

    __slots__ = ("children", "fan_out", "hashes", "holder_to_use", "is_prompt", "num_ends", "parent", "work")

    def __init__(self, hashes: "array[int]", parent: "Run | None") -> None:
        self.hashes = hashes
        self.parent = parent
        self.children: dict[int, Run] = {}
        """The runs that go on from this one, by their first block."""
        self.holder_to_use: dict[ReplicaId, int] = {}
        """Each holder's last use of this run, by its number. One use is of many runs."""
        self.num_ends = 0
        """Prompts whose last full block is this run's last."""
        self.work = 0.0
        """Recent work of all prompts with this run, as `Fading` stores it."""
        self.fan_out = 1
        """The number of replicas that this work is for."""
        self.is_prompt = True
        """Whether a prompt contains this run. If not, it is an answer, as a rule, of which an engine told."""

    def __len__(self) -> int:
        return len(self.hashes)


class Step(NamedTuple):
    """A run on a prompt's path."""

    run: Run
    end: int
    """The depth to which the prompt and the run agree, in blocks from the prompt's start."""
    is_whole: bool
    """Whether they agree on the whole run."""


class PrefixTree:
    """Every run has a holder; a run that loses its last holder is gone."""

    def __init__(self) -> None:
        self._root = Run(array("Q"), None)

    def path(self, block_hashes: Sequence[int]) -> list[Step]:
        """The runs on the prompt's path, from its start on. Only the last run may go on differently."""
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
        """The runs of exactly this prompt, split or added as needed. An added run has no holder yet.

        `steps` are the prompt's `path`, if that is known already.
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
        """The run and all runs before it, the first one first."""
        runs = []
        while not self.is_root(run):
            runs.append(run)
            assert run.parent is not None
            run = run.parent
        runs.reverse()
        return runs

    def split(self, run: Run, num_blocks: int) -> Run:
        """Make the first `num_blocks` of a run a run of their own, which is returned. The run keeps the rest."""
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
        """Remove a holder of the run, which holds none of its children."""
        del run.holder_to_use[replica_id]
        if not run.holder_to_use:
            assert not run.children, "a run without holders has children"
            assert run.parent is not None
            del run.parent.children[run.hashes[0]]
            del run.hashes[:]  # remaining references to it are for its parent

    def depth(self, run: Run) -> int:
        """Number of blocks before a run."""
        num_blocks = 0
        while run.parent is not None:
            run = run.parent
            num_blocks += len(run)
        return num_blocks

    def prefix(self, run: Run, num_blocks: int) -> "array[int]":
        """Every block from the prompts' start up to and including the first `num_blocks` of this run."""
        stretches = [run.hashes[:num_blocks]]
        while run.parent is not None:
            run = run.parent
            stretches.append(run.hashes)
        prefix = array("Q")
        for stretch in reversed(stretches):
            prefix.extend(stretch)
        return prefix

    def is_root(self, run: Run) -> bool:
        """Whether this run is the start of all prompts, which has no blocks and no holders."""
        return run is self._root

    @property
    def first_runs(self) -> dict[int, Run]:
        """The runs at the prompts' start, by their first block."""
        return self._root.children

    def runs(self) -> Iterator[Run]:
        """Every run, parents first."""
        pending = list(self._root.children.values())
        while pending:
            run = pending.pop()
            yield run
            pending.extend(run.children.values())

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        for run in self.runs():
            parent = run.parent
            assert parent is not None
            assert len(run) > 0, "a run without blocks"
            assert parent.children[run.hashes[0]] is run
            assert run.holder_to_use, "a run without holders"
            if not self.is_root(parent):
                missing = run.holder_to_use.keys() - parent.holder_to_use.keys()
                assert not missing, f"{missing} hold a run and not its parent"


def agreement(hashes: Sequence[int], block_hashes: Sequence[int], start: int) -> int:
    """Number of a run's leading blocks that the prompt has at `start`. Equal hashes mean equal prefixes: search by
    halves.
    """
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

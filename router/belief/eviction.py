"""The order in which one replica used its cached blocks: the longest unused ones are estimated to be evicted first.

A prompt uses all of its blocks at once, so an LRU of blocks need not list blocks: it is a queue of uses, each with its
prompt's last run. A run belongs to the last use that passed over it. Eviction takes the oldest use and the runs that
belong to it, from the prompt's end towards its start: leaves before stems, block by block, as vLLM's free-block queue
does (`KVCacheManager.free` returns a request's blocks in reverse order).

The blocks of an outstanding request cannot be evicted: whenever eviction comes to them, they count as used now. So
ended uses come in the order of their ends, before all uses that go on.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import count

from router.belief.prefix_tree import PrefixTree, Run
from router.types import ReplicaId

MAX_PASSED_OVER = 32
"""Uses that go on and are passed over in one eviction, at most. A decision must not cost more where many requests are
outstanding; what is not found for that is evicted by the next ones."""


class Use:
    """A request's use of a prompt's blocks at one replica. It begins with `EvictionOrder.use`, and goes on until
    `EvictionOrder.end`.
    """

    __slots__ = ("last_run", "number")

    def __init__(self) -> None:
        self.number: int | None = None
        """Its number among the replica's uses; None before it begins."""
        self.last_run: Run | None = None
        """The run in which the prompt ends."""


class EvictionOrder:
    """One replica's uses, oldest first. Those whose runs all belong to later ones by now are passed over."""

    def __init__(self, replica_id: ReplicaId, tree: PrefixTree) -> None:
        self.replica_id = replica_id
        self._tree = tree
        self.next_number = 1
        self._oldest_numbers = count(0, -1)
        self._queue: deque[int] = deque()  # numbers
        self._number_to_last_run: dict[int, Run] = {}  # of all numbers in the queue
        self._number_to_use: dict[int, Use] = {}  # the uses that go on
        self._run_to_num_uses: dict[Run, int] = {}  # how many of these end with each run
        self._compact_at = 64
        self.capacity_blocks = 0
        self.num_blocks = 0
        self.is_bounded = True
        """Whether blocks beyond the capacity are estimated to be evicted. Not where the engine tells its evictions."""

    def use(self, runs: Sequence[Run], use: Use | None = None) -> None:
        """Use a prompt of these runs now and, if a `use` is given, until its end."""
        number = self._begin(runs[-1], use)
        for run in runs:
            if self.replica_id not in run.holder_to_use:
                self.num_blocks += len(run)
            run.holder_to_use[self.replica_id] = number
        self._queue.append(number)
        self._number_to_last_run[number] = runs[-1]
        self._compact()

    def go_on(self, last_run: Run, use: Use) -> None:
        """Use a cached prompt that was in use already, whichever use came last."""
        self._put_first(self._begin(last_run, use), last_run)

    def end(self, use: Use) -> None:
        """End a use. One that is over already stays so."""
        if use.number is not None and self._number_to_use.get(use.number) is use:
            assert use.last_run is not None
            del self._number_to_use[use.number]
            self._run_to_num_uses[use.last_run] -= 1
            if not self._run_to_num_uses[use.last_run]:
                del self._run_to_num_uses[use.last_run]

    def add_oldest(self, runs: Sequence[Run]) -> None:
        """Add a prompt that was used before all others. Its runs that later prompts used stay with these."""
        number = next(self._oldest_numbers)
        new = [run for run in runs if self.replica_id not in run.holder_to_use]
        for run in new:
            run.holder_to_use[self.replica_id] = number
            self.num_blocks += len(run)
        if new:
            self._put_first(number, new[-1])

    def fit(self) -> None:
        """Release the blocks beyond the capacity, as far as they are not in use.

        Waiting prompts need no memory yet, and their common prefixes will be there when they are computed. So they are
        remembered even where all of them together would not fit.
        """
        if self.is_bounded:
            self.evict(self.num_blocks - self.capacity_blocks)

    def evict(self, num_blocks: int) -> None:
        """Release the longest unused blocks that are not in use."""
        num_left = min(num_blocks, self.num_blocks)
        num_to_pass = min(MAX_PASSED_OVER, len(self._number_to_use))
        while num_left > 0:
            number = self._queue.popleft()
            run = self._number_to_last_run.pop(number)
            if number in self._number_to_use:
                if num_to_pass == 0:
                    self._put_first(number, run)
                    return
                num_to_pass -= 1
                self._use_again(number, run)
                continue
            while num_left > 0 and run.holder_to_use.get(self.replica_id) == number:
                if len(run) > num_left:
                    run = self._shorten(run, num_left)
                    num_left = 0
                else:
                    num_left -= len(run)
                    run = self.release(run)
            if run.holder_to_use.get(self.replica_id) == number:
                self._put_first(number, run)

    def evict_before(self, number: int) -> None:
        """Release the blocks that were used before a use and are not in use. At most a few uses are passed over."""
        for _ in range(MAX_PASSED_OVER):
            while self._queue and self._queue[0] < number and self._queue[0] not in self._number_to_use:
                self._release_oldest()
            if not self._queue or self._queue[0] >= number:
                return
            oldest = self._queue.popleft()
            self._use_again(oldest, self._number_to_last_run.pop(oldest))

    def forget(self) -> None:
        """Release everything, in use or not."""
        for use in tuple(self._number_to_use.values()):
            self.end(use)
        self.evict(self.num_blocks)

    def _release_oldest(self) -> None:
        number = self._queue.popleft()
        run = self._number_to_last_run.pop(number)
        while run.holder_to_use.get(self.replica_id) == number:
            run = self.release(run)

    def _begin(self, last_run: Run, use: Use | None) -> int:
        """Take the next number, under which the use goes on, if one is given."""
        number = self.next_number
        self.next_number += 1
        if use is not None:
            self.end(use)
            use.number, use.last_run = number, last_run
            self._run_to_num_uses[last_run] = self._run_to_num_uses.get(last_run, 0) + 1
            self._number_to_use[number] = use
        return number

    def _put_first(self, number: int, last_run: Run) -> None:
        self._queue.appendleft(number)
        self._number_to_last_run[number] = last_run

    def _use_again(self, number: int, last_run: Run) -> None:
        if self.replica_id in last_run.holder_to_use:
            self.use(self._tree.path_to(last_run), self._number_to_use[number])

    def release(self, run: Run) -> Run:
        """Drop a run from the cache. Returns its parent."""
        assert run.parent is not None
        self.num_blocks -= len(run)
        self._tree.release(run, self.replica_id)
        return run.parent

    def cut(self, run: Run, num_kept: int) -> None:
        """Keep only the first `num_kept` blocks of a run. The rest of its use keeps its place in the queue."""
        number = run.holder_to_use[self.replica_id]
        left = self._shorten(run, len(run) - num_kept) if num_kept else self.release(run)
        if left.holder_to_use.get(self.replica_id) == number:
            self._number_to_last_run[number] = left

    def lengthen(self, run: Run, block_hashes: Sequence[int]) -> None:
        """Add blocks at the end of a run that no other replica has, and on which nothing builds."""
        run.hashes.extend(block_hashes)
        self.num_blocks += len(block_hashes)

    def children(self, run: Run) -> list[Run]:
        """Cached runs that build on the run."""
        return [child for child in run.children.values() if self.replica_id in child.holder_to_use]

    def is_needed(self, run: Run) -> bool:
        """Whether a cached run builds on the run, or the prompt of an outstanding request ends with it."""
        return run in self._run_to_num_uses or any(
            self.replica_id in child.holder_to_use for child in run.children.values()
        )

    def runs(self) -> Iterator[Run]:
        """Every cached run, in the order of eviction."""
        for number in self._queue:
            run = self._number_to_last_run[number]
            while run.holder_to_use.get(self.replica_id) == number:
                yield run
                assert run.parent is not None
                run = run.parent

    def _shorten(self, run: Run, num_blocks: int) -> Run:
        """Release the last blocks of a run. Returns the run that is left."""
        if len(run.holder_to_use) > 1:  # the others keep all of it
            upper = self._tree.split(run, len(run) - num_blocks)
            self.release(run)
            return upper
        del run.hashes[-num_blocks:]
        run.num_ends = 0
        self.num_blocks -= num_blocks
        return run

    def _compact(self) -> None:
        """Drop uses to which no run belongs any more, once they are the larger part."""
        if len(self._queue) < self._compact_at:
            return
        number_to_last_run = self._number_to_last_run
        self._queue = deque(
            number
            for number in self._queue
            if number_to_last_run[number].holder_to_use.get(self.replica_id) == number or number in self._number_to_use
        )
        self._number_to_last_run = {number: number_to_last_run[number] for number in self._queue}
        self._compact_at = max(64, 2 * len(self._queue))

    def check_integrity(self) -> None:
        """Assert what must be true after every step."""
        assert self._number_to_last_run.keys() == set(self._queue)
        assert self._run_to_num_uses == Counter(use.last_run for use in self._number_to_use.values())
        assert all(use.number == number for number, use in self._number_to_use.items())
        cached = [run for run in self._tree.runs() if self.replica_id in run.holder_to_use]
        num_cached = sum(map(len, cached))
        assert self.num_blocks == num_cached, f"{self.num_blocks} blocks counted, {num_cached} cached"
        assert not self.is_bounded or self._number_to_use or self.num_blocks <= self.capacity_blocks, (
            f"{self.num_blocks} blocks, capacity {self.capacity_blocks}, and nothing is in use"
        )
        run_to_place = {id(run): place for place, run in enumerate(self.runs())}
        assert len(run_to_place) == sum(1 for _ in self.runs()), "a run would be evicted twice"
        assert run_to_place.keys() == set(map(id, cached)), "runs are cached that would never be evicted"
        assert all(run_to_place.get(id(run.parent), len(cached)) > run_to_place[id(run)] for run in cached), (
            "a run would be evicted before one that builds on it"
        )

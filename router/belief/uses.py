"""What one replica used when, so that what was used longest ago can be taken to be evicted first.

Whoever uses a prompt uses all of its blocks, so an LRU of blocks need not list blocks: it is a queue of uses, each with
its prompt's last run. A run belongs to the last use that passed over it. Eviction takes the oldest use and what belongs
to it, from its end towards its start: leaves before stems, block by block, as vLLM's free-block queue does
(`KVCacheManager.free` returns a request's blocks in reverse order).

What a request uses that is not over cannot be evicted: it counts as used now, whenever eviction comes to it. So what
ended comes in the order of its end, and before all that has not ended.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

from router.belief.prefix_tree import PrefixTree, Run
from router.types import ReplicaId, RequestId

MAX_PASSED_OVER = 32
"""Uses that go on, each time something is evicted: a decision shall cost no more where many requests are under way.
What is not found for that is evicted by the next ones."""


class _Use(NamedTuple):
    """Of a request that is not over."""

    number: int
    last_run: Run


class Uses:
    """One replica's uses, oldest first. Those whose runs all belong to later uses by now are passed over."""

    def __init__(self, replica_id: ReplicaId, tree: PrefixTree) -> None:
        self.replica_id = replica_id
        self._tree = tree
        self.next_number = 1
        self._oldest_numbers = count(0, -1)
        self._queue: deque[int] = deque()  # numbers
        self._number_to_last_run: dict[int, Run] = {}  # of all in the queue
        self._number_to_request: dict[int, RequestId] = {}  # of the uses that go on
        self._request_to_use: dict[RequestId, _Use] = {}
        self._run_to_num_requests: dict[Run, int] = {}  # of these, by the last run
        self._compact_at = 64
        self.capacity_blocks = 0
        self.num_blocks = 0
        self.is_bounded = True
        """Whether what exceeds the capacity is taken to be evicted. Not where the engine tells what it evicts."""

    def use(self, runs: Sequence[Run], request_id: RequestId | None = None) -> None:
        """A prompt of these runs was used now, and is until `end`, if it is said by which request."""
        number = self._begin(runs[-1], request_id)
        for run in runs:
            if self.replica_id not in run.holder_to_use:
                self.num_blocks += len(run)
            run.holder_to_use[self.replica_id] = number
        self._queue.append(number)
        self._number_to_last_run[number] = runs[-1]
        self._compact()

    def go_on(self, last_run: Run, request_id: RequestId) -> None:
        """A prompt that is held is in use already, whoever used it last."""
        self._put_first(self._begin(last_run, request_id), last_run)

    def end(self, request_id: RequestId) -> None:
        """A request does not use anything any more."""
        use = self._request_to_use.pop(request_id, None)
        if use is not None:
            del self._number_to_request[use.number]
            self._run_to_num_requests[use.last_run] -= 1
            if not self._run_to_num_requests[use.last_run]:
                del self._run_to_num_requests[use.last_run]

    def add_oldest(self, runs: Sequence[Run]) -> None:
        """A prompt was used before all others; what of it later ones used stays theirs."""
        number = next(self._oldest_numbers)
        new = [run for run in runs if self.replica_id not in run.holder_to_use]
        for run in new:
            run.holder_to_use[self.replica_id] = number
            self.num_blocks += len(run)
        if new:
            self._put_first(number, new[-1])

    def fit(self) -> None:
        """Release what exceeds the capacity, as far as it is not in use.

        Prompts that wait need no memory yet, and what they have in common with others will be there when they are
        computed. So they are remembered even where all of them together would not fit.
        """
        if self.is_bounded:
            self.evict(self.num_blocks - self.capacity_blocks)

    def evict(self, num_blocks: int) -> None:
        """Release the blocks that were used longest ago, of those that are not in use."""
        num_left = min(num_blocks, self.num_blocks)
        num_to_pass = min(MAX_PASSED_OVER, len(self._number_to_request))
        while num_left > 0:
            number = self._queue.popleft()
            run = self._number_to_last_run.pop(number)
            if number in self._number_to_request:
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
        """Release what was used before a use and is not in use; what goes on is passed over, if it is not too much."""
        for _ in range(MAX_PASSED_OVER):
            while self._queue and self._queue[0] < number and self._queue[0] not in self._number_to_request:
                self._release_oldest()
            if not self._queue or self._queue[0] >= number:
                return
            oldest = self._queue.popleft()
            self._use_again(oldest, self._number_to_last_run.pop(oldest))

    def forget(self) -> None:
        """Release everything, in use or not."""
        for request_id in tuple(self._request_to_use):
            self.end(request_id)
        self.evict(self.num_blocks)

    def _release_oldest(self) -> None:
        number = self._queue.popleft()
        run = self._number_to_last_run.pop(number)
        while run.holder_to_use.get(self.replica_id) == number:
            run = self.release(run)

    def _begin(self, last_run: Run, request_id: RequestId | None) -> int:
        """The number of a new use, which goes on in place of the request's earlier one, if it is a request's."""
        number = self.next_number
        self.next_number += 1
        if request_id is not None:
            self.end(request_id)
            self._request_to_use[request_id] = _Use(number, last_run)
            self._run_to_num_requests[last_run] = self._run_to_num_requests.get(last_run, 0) + 1
            self._number_to_request[number] = request_id
        return number

    def _put_first(self, number: int, last_run: Run) -> None:
        self._queue.appendleft(number)
        self._number_to_last_run[number] = last_run

    def _use_again(self, number: int, last_run: Run) -> None:
        if self.replica_id in last_run.holder_to_use:
            self.use(self._tree.path_to(last_run), self._number_to_request[number])

    def release(self, run: Run) -> Run:
        """Hold the run no more; returns its parent."""
        assert run.parent is not None
        self.num_blocks -= len(run)
        self._tree.release(run, self.replica_id)
        return run.parent

    def cut(self, run: Run, num_kept: int) -> None:
        """Hold the first `num_kept` blocks of a run only; what is left of the same use keeps its place in the queue."""
        number = run.holder_to_use[self.replica_id]
        left = self._shorten(run, len(run) - num_kept) if num_kept else self.release(run)
        if left.holder_to_use.get(self.replica_id) == number:
            self._number_to_last_run[number] = left

    def lengthen(self, run: Run, block_hashes: Sequence[int]) -> None:
        """Hold more blocks at the end of a run that nobody else holds, and on which nothing builds."""
        run.hashes.extend(block_hashes)
        self.num_blocks += len(block_hashes)

    def children(self, run: Run) -> list[Run]:
        """What is held and builds on the run."""
        return [child for child in run.children.values() if self.replica_id in child.holder_to_use]

    def is_needed(self, run: Run) -> bool:
        """Whether something held builds on the run, or the prompt of a request that is not over ends with it."""
        return run in self._run_to_num_requests or any(
            self.replica_id in child.holder_to_use for child in run.children.values()
        )

    def runs(self) -> Iterator[Run]:
        """What is held, in the order in which it would be evicted."""
        for number in self._queue:
            run = self._number_to_last_run[number]
            while run.holder_to_use.get(self.replica_id) == number:
                yield run
                assert run.parent is not None
                run = run.parent

    def _shorten(self, run: Run, num_blocks: int) -> Run:
        """Release the last blocks of a run; returns the run that is left."""
        if len(run.holder_to_use) > 1:  # others hold all of it
            upper = self._tree.split(run, len(run) - num_blocks)
            self.release(run)
            return upper
        del run.hashes[-num_blocks:]
        run.num_ends = 0
        self.num_blocks -= num_blocks
        return run

    def _compact(self) -> None:
        """Drop uses to which nothing belongs any more, once they are the larger part."""
        if len(self._queue) < self._compact_at:
            return
        number_to_last_run = self._number_to_last_run
        self._queue = deque(
            number
            for number in self._queue
            if number_to_last_run[number].holder_to_use.get(self.replica_id) == number
            or number in self._number_to_request
        )
        self._number_to_last_run = {number: number_to_last_run[number] for number in self._queue}
        self._compact_at = max(64, 2 * len(self._queue))

    def check_integrity(self) -> None:
        """Assert what must hold after every step."""
        assert self._number_to_last_run.keys() == set(self._queue)
        assert self._run_to_num_requests == Counter(use.last_run for use in self._request_to_use.values())
        assert self._number_to_request == {use.number: each for each, use in self._request_to_use.items()}
        held = [run for run in self._tree.runs() if self.replica_id in run.holder_to_use]
        assert self.num_blocks == sum(map(len, held)), f"{self.num_blocks} blocks counted, {sum(map(len, held))} held"
        assert not self.is_bounded or self._number_to_request or self.num_blocks <= self.capacity_blocks, (
            f"{self.num_blocks} blocks, capacity {self.capacity_blocks}, and nothing is in use"
        )
        run_to_place = {id(run): place for place, run in enumerate(self.runs())}
        assert len(run_to_place) == sum(1 for _ in self.runs()), "a run would be evicted twice"
        assert run_to_place.keys() == set(map(id, held)), "runs are held that would never be evicted"
        assert all(run_to_place.get(id(run.parent), len(held)) > run_to_place[id(run)] for run in held), (
            "a run would be evicted before one that builds on it"
        )

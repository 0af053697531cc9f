"""vLLM's scheduler with our order of waiting. vLLM takes its class by the engine argument `scheduler_cls`.

Everything else is vLLM's own: what runs goes on, who is preempted goes to the front, and what waits for a grammar, a
remote cache or a LoRA is in vLLM's second queue. Adapter: private names of vLLM are listed in
tests/serve_app/test_private_names.py.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import RequestQueue, SchedulingPolicy
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig
from vllm.v1.request import Request

from serve_app.engines.waiting_order import OVERTAKING, CachedPrefix, WaitingOrder

PrefixReader = Callable[[Request], CachedPrefix]


class WarmrouteScheduler(AsyncScheduler):  # type: ignore[misc]  # vLLM is not typed for us
    """Takes the waiting request with the least to compute next, within bounds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  vLLM's
        super().__init__(*args, **kwargs)
        self.waiting = ShortestFirstQueue(
            make_prefix_reader(
                self.kv_cache_config, self.kv_cache_manager.block_pool, hash_block_size=self.hash_block_size
            ),
            has_priorities=self.policy is SchedulingPolicy.PRIORITY,
        )


class ShortestFirstQueue(RequestQueue):  # type: ignore[misc]
    """Requests by priority, if there are any, and among equals by `WaitingOrder`.

    Args:
        read_prefix: of a request, to look up its cached tokens as long as it waits.
        has_priorities: whether vLLM heeds the requests' priorities; otherwise all are equal.

    """

    def __init__(self, read_prefix: PrefixReader, *, has_priorities: bool) -> None:
        self._read_prefix = read_prefix
        self._has_priorities = has_priorities
        self._priority_to_order: dict[int, WaitingOrder[Request]] = {}
        self._peeked: Request | None = None

    def add_request(self, request: Request) -> None:
        """Put a request behind all others, until its work is looked at."""
        self._order_of(request).add(request, self._read_prefix(request))
        self._peeked = None

    def prepend_request(self, request: Request) -> None:
        """Put a request before all others of its priority: it ran already."""
        self._order_of(request).put_back(request)
        self._peeked = None

    def prepend_requests(self, requests: RequestQueue) -> None:
        """Put several back, the last one first, as vLLM has it."""
        for request in requests:
            self.prepend_request(request)

    def peek_request(self) -> Request:
        """The request that goes next, as the cache is now."""
        if not self:
            raise IndexError("peek from an empty queue")
        self._peeked = self._priority_to_order[min(self._priority_to_order)].choose()
        return self._peeked

    def pop_request(self) -> Request:
        """Take the request that was peeked at; the cache has changed since, because it got its blocks."""
        request = self._peeked if self._peeked is not None else self.peek_request()
        self._order_of(request).start(request)
        self._forget(request)
        return request

    def remove_request(self, request: Request) -> None:
        """Drop a request that its client does not want any more."""
        self._order_of(request).remove(request)
        self._forget(request)

    def remove_requests(self, requests: Iterable[Request]) -> None:
        """Drop those of these requests that are here."""
        for request in set(requests):
            if request in self._order_of(request):
                self._order_of(request).remove(request)
            self._forget(request)

    def __bool__(self) -> bool:
        return bool(self._priority_to_order)

    def __len__(self) -> int:
        return sum(map(len, self._priority_to_order.values()))

    def __iter__(self) -> Iterator[Request]:
        """All requests by priority, then as they came."""
        for priority in sorted(self._priority_to_order):
            yield from self._priority_to_order[priority]

    def _order_of(self, request: Request) -> WaitingOrder[Request]:
        priority = request.priority if self._has_priorities else 0
        return self._priority_to_order.setdefault(priority, WaitingOrder(overtaking=OVERTAKING))

    def _forget(self, gone: Request) -> None:
        if not self._order_of(gone):
            del self._priority_to_order[gone.priority if self._has_priorities else 0]
        self._peeked = None


def make_prefix_reader(kv_cache_config: KVCacheConfig, block_pool: BlockPool, *, hash_block_size: int) -> PrefixReader:
    """A reader that goes by the blocks of full attention, which need all of a prefix; others may have fewer, or more.

    Where no such layer has blocks of the size that vLLM hashes, everything counts as uncached.
    """
    groups = [
        index
        for index, group in enumerate(kv_cache_config.kv_cache_groups)
        if isinstance(group.kv_cache_spec, FullAttentionSpec) and group.kv_cache_spec.block_size == hash_block_size
    ][:1]

    def read(request: Request) -> CachedPrefix:
        hashes = request.block_hashes
        is_read = groups and not request.skip_reading_prefix_cache
        return CachedPrefix(
            num_tokens=request.num_tokens,
            num_blocks=min(len(hashes), (request.num_tokens - 1) // hash_block_size) if is_read else 0,
            block_size=hash_block_size,
            is_cached=lambda index: block_pool.get_cached_block(hashes[index], groups) is not None,
        )

    return read

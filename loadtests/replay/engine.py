"""A vLLM-like engine as a state machine: requests in, steps out. It knows durations, and no clock.

Chunked prefill and continuous batching, in vLLM's order of waiting or in ours (`serve_app.engines.waiting_order`). As
in vLLM with its defaults, a prompt starts once there is room for all of it (`scheduler_reserve_full_isl`), with none
kept for answers (`watermark`); where they outgrow the memory, what was admitted last is preempted, to be computed again
together with its answer so far. One rule is ours: a request that is larger than the cache runs alone, which vLLM would
refuse.

A second tier in host memory has a copy of every block that was used, last used last evicted. Copying out is free, as
if it overlapped; copying back costs the step in which it happens its time, as if nothing did.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, count, islice
from operator import itemgetter

from loadtests.replay.prefix_cache import PrefixCache
from loadtests.replay.prompt import EnginePrompt
from loadtests.replay.trace import TraceRequest
from router import HOST_TOKENS_PER_S, BlockHash, EngineLoad, RequestId
from serve_app.engines.step_clock import num_attended
from serve_app.engines.waiting_order import OVERTAKING, CachedPrefix, WaitingOrder
from serve_app.messages.kv_updates import KvChange
from serve_app.messages.receipts import Finished, Prefilled
from serve_app.settings.schema import EngineModelSettings, ReplicaSettings, WaitingOrderName


class EngineOptions(EngineModelSettings):
    """The speed of an engine, as the settings have it, and its size; the defaults are those behind the numbers in our
    design.
    """

    kv_capacity_tokens: int = 500_000
    """KV cache, in tokens, as replicas report it."""
    waiting_order: WaitingOrderName = ReplicaSettings().waiting_order
    """The order in which waiting prompts start."""
    host_capacity_tokens: int = 0
    """Size of a second tier in the host's memory, which has a copy of what was computed as long as it fits."""
    host_tokens_per_s: float = HOST_TOKENS_PER_S
    """Speed at which tokens' KV comes back from there, by default as routers estimate it."""


class Engine:
    """Call `start_step`, let its time pass, call `finish_step`, and so on until there is nothing to do."""

    def __init__(self, options: EngineOptions, *, block_size: int) -> None:
        self._options = options
        self._block_size = block_size
        # vLLM keeps a block for itself: `BlockPool.null_block`.
        self._kv_events: list[KvChange] = []
        self.cache = PrefixCache(capacity_blocks=options.kv_capacity_tokens // block_size - 1, events=self._kv_events)
        self._partial_tokens = 0  # computed ones that fill no block yet, of all running requests
        self._host = PrefixCache(capacity_blocks=options.host_capacity_tokens // block_size)
        self._waiting: WaitingOrder[EnginePrompt] = WaitingOrder(
            overtaking=OVERTAKING if options.waiting_order == "shortest" else 0
        )
        self._started: deque[EnginePrompt] = deque()  # whose prompts are being computed; the last one perhaps in part
        self._decoding: list[tuple[int, int, EnginePrompt]] = []  # a heap: step of the last token, order, prompt
        self._decoding_tokens = 0  # in the contexts of these
        self._order = count()
        self._num_steps = 0
        self._in_step_tokens = 0
        self._in_step_attended = 0.0
        self._is_short = False  # a prompt was preempted in this step, so none may start
        self._in_step_loaded_tokens = 0
        self.num_computed_tokens = 0
        """Prefill tokens computed since the start."""
        self.num_preempted = 0
        """Number of preemptions since the start."""

    @property
    def options(self) -> EngineOptions:
        """How fast and how large it is."""
        return self._options

    def submit(self, request_id: RequestId, request: TraceRequest) -> None:
        """Queue a request."""
        prompt = EnginePrompt(request_id, request, request.block_hashes + request.answer_hashes)
        self._waiting.add(prompt, self._cached_prefix(prompt))

    def start_step(self) -> float | None:
        """Schedule the next step; returns its duration in seconds, None when there is nothing to do."""
        if not self._waiting and not self._started and not self._decoding:
            return None
        self._is_short = self._make_room()
        self._count_decoded(num_steps=1)
        budget_tokens = self._options.max_step_tokens - len(self._decoding)
        max_prompts = self._options.max_sequences - len(self._decoding)
        for prompt in islice(self._started, max_prompts if budget_tokens > 0 else 0):
            budget_tokens -= self._compute(prompt, budget_tokens)
        while budget_tokens > 0 and len(self._started) < max_prompts and (next_prompt := self._next_prompt()):
            self._waiting.start(next_prompt)
            self._started.append(next_prompt)
            budget_tokens -= self._compute(next_prompt, budget_tokens)
        return next(self.durations_s(1))

    def durations_s(self, num_steps: int) -> Iterator[float]:
        """Seconds of the step that was started, and of those alike that follow it: contexts grow by a token a step."""
        options, num_decoding = self._options, len(self._decoding)
        fixed_s = (
            options.step_s
            + self._in_step_tokens / options.prefill_tokens_per_s
            + self._in_step_attended * options.attention_s
            + self._in_step_loaded_tokens / options.host_tokens_per_s
            + options.decode_s * num_decoding
        )
        contexts = islice(count(self._decoding_tokens, num_decoding), num_steps)
        return (fixed_s + options.decode_context_s * context for context in contexts)

    @property
    def num_alike_steps(self) -> int:
        """Further steps that do the same as the one that was started, if no request comes in that time."""
        if self._in_step_tokens or self._is_short or not self._decoding:
            return 0
        num_until_one_ends = self._decoding[0][0] - self._num_steps
        if len(self._decoding) == 1:
            return num_until_one_ends
        return min(num_until_one_ends, self._free_tokens // len(self._decoding))

    def skip_steps(self, num_steps: int) -> None:
        """Let that many of the steps alike be over."""
        self._count_decoded(num_steps=num_steps)

    def finish_step(self) -> tuple[Prefilled | Finished, ...]:
        """The step's outputs, as far as routers care for them."""
        self.num_computed_tokens += self._in_step_tokens
        self._in_step_tokens = self._in_step_loaded_tokens = 0
        self._in_step_attended = 0.0
        return (*self._first_tokens(), *self._last_tokens())

    def take_kv_events(self) -> tuple[KvChange, ...]:
        """What was stored and evicted since the last time."""
        events = tuple(self._kv_events)
        self._kv_events.clear()
        return events

    def pending_tokens(self) -> int:
        """Prompt tokens not yet computed; of a request that was not begun, those that are not cached now."""
        started_tokens = self._in_step_tokens + sum(prompt.tokens_left for prompt in self._started)
        return started_tokens + sum(prompt.num_tokens - self._reusable(prompt) for prompt in self._waiting)

    @property
    def num_waiting(self) -> int:
        """Requests of which nothing was scheduled yet, or that were preempted (vLLM's `num_requests_waiting`)."""
        return len(self._waiting)

    @property
    def used_tokens(self) -> int:
        """Memory of the requests that are running; what they share counts once (vLLM's `kv_cache_usage_perc`)."""
        return self.cache.num_blocks_in_use * self._block_size + self._partial_tokens

    def load(self, *, num_further_steps: int = 0) -> EngineLoad:
        """The engine's own numbers for a heartbeat, when further steps alike are over besides the one started."""
        return EngineLoad(
            num_waiting=self.num_waiting,
            num_running=len(self._started) + len(self._decoding),
            kv_used_tokens=self.used_tokens + num_further_steps * len(self._decoding),
            num_preempted=self.num_preempted,
        )

    @property
    def active_tokens(self) -> int:
        """Prompt tokens of all requests that are here."""
        decoding_tokens = sum(prompt.request.num_prompt_tokens for _, _, prompt in self._decoding)
        return decoding_tokens + sum(prompt.request.num_prompt_tokens for prompt in chain(self._started, self._waiting))

    def reusable_tokens(self, num_prompt_tokens: int, block_hashes: Sequence[BlockHash]) -> int:
        """Cached tokens of a prompt, without its last one: it is always computed, for its logits."""
        max_blocks = (num_prompt_tokens - 1) // self._block_size
        num_cached = max(cache.num_cached(block_hashes) for cache in (self.cache, self._host))
        return min(num_cached, max_blocks) * self._block_size

    @property
    def _free_tokens(self) -> int:
        """What is not in use, evictable blocks included."""
        return self.cache.capacity_blocks * self._block_size - self.used_tokens

    def _next_prompt(self) -> EnginePrompt | None:
        """The prompt that may start, if there is room for all of it, or nothing else runs."""
        if self._is_short or not self._waiting:
            return None
        prompt = self._waiting.choose()
        num_shared = self.cache.num_shared(prompt.block_hashes[: (prompt.num_tokens - 1) // self._block_size])
        is_room = prompt.num_tokens - num_shared * self._block_size <= self._free_tokens or not self.used_tokens
        return prompt if is_room else None

    def _cached_prefix(self, prompt: EnginePrompt) -> CachedPrefix:
        cached, cached_by_host = self.cache.block_hashes(), self._host.block_hashes()
        hashes = prompt.block_hashes
        return CachedPrefix(
            num_tokens=prompt.num_tokens,
            num_blocks=min(len(hashes), (prompt.num_tokens - 1) // self._block_size),
            block_size=self._block_size,
            is_cached=lambda index: hashes[index] in cached or hashes[index] in cached_by_host,
        )

    def _make_room(self) -> bool:
        """Preempt until what is running can go on, or is alone; returns whether a prompt was preempted."""
        is_short = False
        while True:
            prompt = self._started[0] if self._started else None
            chunk_tokens = min(self._options.max_step_tokens - len(self._decoding), prompt.tokens_left) if prompt else 0
            num_running = len(self._decoding) + (prompt is not None)
            if num_running <= 1 or len(self._decoding) + chunk_tokens <= self._free_tokens:
                return is_short
            self._preempt(self._started.popleft() if prompt else self._stop_decoding())
            is_short = True

    def _stop_decoding(self) -> EnginePrompt:
        """Take out the prompt that was admitted last among those that are being decoded."""
        last = max(self._decoding, key=itemgetter(1))
        self._decoding.remove(last)
        heapify(self._decoding)
        last_step, _, prompt = last
        prompt.num_generated = prompt.request.num_output_tokens - (last_step - self._num_steps)
        prompt.computed_tokens = prompt.num_tokens - 1
        self._decoding_tokens -= prompt.computed_tokens
        return prompt

    def _preempt(self, prompt: EnginePrompt) -> None:
        """Give up what was computed, and let the prompt wait before all others."""
        self.num_preempted += 1
        self._free(prompt)
        prompt.is_started, prompt.is_preempted = False, True
        prompt.computed_tokens, prompt.blocks = 0, []
        self._waiting.put_back(prompt)

    def _compute(self, prompt: EnginePrompt, budget_tokens: int) -> int:
        """Schedule a chunk; returns its tokens. As in vLLM, the cache is asked once, at the first chunk, and a
        block may be reused by what is scheduled later, in the same step too (`KVCacheManager.allocate_slots`).
        """
        block_hashes = prompt.block_hashes
        if not prompt.is_started:
            prompt.is_started = True
            prompt.computed_tokens = self._reusable(prompt)
            num_cached = min(self.cache.num_cached(block_hashes), prompt.computed_tokens // self._block_size)
            if not prompt.is_preempted:
                prompt.cached_tokens = prompt.computed_tokens
                prompt.external_tokens = prompt.computed_tokens - num_cached * self._block_size
            prompt.blocks = self.cache.reuse(block_hashes[:num_cached])
            loaded = block_hashes[num_cached : prompt.computed_tokens // self._block_size]
            prompt.blocks += self.cache.store(loaded, parent=prompt.last_block)
            self._in_step_loaded_tokens += len(loaded) * self._block_size
        chunk_tokens = min(budget_tokens, prompt.tokens_left)
        self._in_step_attended += num_attended(chunk_tokens, num_before=prompt.computed_tokens)
        prompt.computed_tokens += chunk_tokens
        self._in_step_tokens += chunk_tokens
        num_full_blocks = prompt.computed_tokens // self._block_size
        self._fill(prompt, block_hashes[len(prompt.blocks) : num_full_blocks], chunk_tokens)
        self._host.use(block_hashes[:num_full_blocks])
        return chunk_tokens

    def _count_decoded(self, *, num_steps: int) -> None:
        """Each sequence that is being decoded computes a token a step."""
        self._num_steps += num_steps
        self._decoding_tokens += num_steps * len(self._decoding)
        self._partial_tokens += num_steps * len(self._decoding)
        self._show_partial()

    def _fill(self, prompt: EnginePrompt, block_hashes: Sequence[BlockHash], num_tokens: int) -> None:
        """Compute tokens, which complete these blocks."""
        self._partial_tokens += num_tokens - len(block_hashes) * self._block_size
        self._show_partial()
        prompt.blocks += self.cache.store(block_hashes, parent=prompt.last_block)

    def _free(self, prompt: EnginePrompt) -> None:
        """Give its memory back; whole blocks stay cached as long as no one needs the room."""
        num_full_blocks = prompt.computed_tokens // self._block_size
        self._fill(prompt, prompt.block_hashes[len(prompt.blocks) : num_full_blocks], 0)
        self._partial_tokens -= prompt.computed_tokens - len(prompt.blocks) * self._block_size
        self._show_partial()
        self.cache.release(prompt.blocks)

    def _show_partial(self) -> None:
        """The blocks of a trace may be larger than an engine's, so tokens are counted together, not block by block."""
        self.cache.set_partial_blocks(-(-self._partial_tokens // self._block_size))

    def _reusable(self, prompt: EnginePrompt) -> int:
        return self.reusable_tokens(prompt.num_tokens, prompt.block_hashes)

    def _first_tokens(self) -> Iterator[Prefilled | Finished]:
        while self._started and not self._started[0].tokens_left:
            prompt = self._started.popleft()
            if not prompt.num_generated:
                yield Prefilled(
                    prompt.request_id,
                    prompt.request.num_prompt_tokens,
                    prompt.cached_tokens,
                    tenant=prompt.request.tenant,
                    external_cached_tokens=prompt.external_tokens,
                )
            self._decoding_tokens += prompt.num_tokens
            last_step = self._num_steps + prompt.request.num_output_tokens - prompt.num_generated - 1
            heappush(self._decoding, (last_step, next(self._order), prompt))

    def _last_tokens(self) -> Iterator[Finished]:
        while self._decoding and self._decoding[0][0] <= self._num_steps:
            prompt = heappop(self._decoding)[2]
            prompt.computed_tokens = prompt.final_tokens
            self._decoding_tokens -= prompt.final_tokens
            self._free(prompt)
            yield Finished(prompt.request_id, prompt.request.num_output_tokens)

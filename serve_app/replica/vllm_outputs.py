"""Reads the engine's own numbers where vLLM's front end takes them in, and ends an engine that hangs.

vLLM's `OutputProcessor` sees each prompt's first output with the tokens that the engine took from its prefix cache,
also where the client gets everything at once, and each of `n` choices and of a list of prompts by itself.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import psutil

from router import RequestId, TokenHash, hash_tokens
from serve_app.messages.receipts import EngineState, ProbeResult
from serve_app.parity.samples import is_sampled
from serve_app.prompt import vllm_hooks
from serve_app.replica.running_requests import RunningRequests, current_request_id
from serve_app.replica.warmth.recent_prompts import RecentPrompts

ABORTED = "aborted_before_first_token"
NOT_LOOKED_UP = "prompt_logprobs"
"""The cause of prompts with log-probabilities, which vLLM computes whole, without a look into its cache."""


_results: ContextVar[list[ProbeResult] | None] = ContextVar("warmroute_probe_results", default=None)
"""The list that takes the results of this task's prompts, if they are the replica's own."""


class PrefillStats(Protocol):
    """The fields of vLLM's class that are read here."""

    num_prompt_tokens: int
    num_local_cached_tokens: int
    num_external_cached_tokens: int


class EngineOutput(Protocol):
    """The fields of vLLM's EngineCoreOutput that are read here."""

    request_id: str
    prefill_stats: PrefillStats | None


class PrefixCacheStats(Protocol):
    """The fields of vLLM's class that are read here: tokens of the prompts that a step took up."""

    queries: int
    hits: int


class SchedulerStats(Protocol):
    """The fields of vLLM's class that are read here."""

    num_waiting_reqs: int
    num_running_reqs: int
    kv_cache_usage: float
    prefix_cache_stats: PrefixCacheStats


class IterationStats(Protocol):
    """The field of vLLM's class that is read here: it counts over the outputs of one step."""

    num_preempted_reqs: int


class Detokenizer(Protocol):
    """The method of vLLM's IncrementalDetokenizer that is called here."""

    def num_output_tokens(self) -> int:
        """Tokens of an answer so far; all there were once it is over, aborted or not."""
        ...


class RequestState(Protocol):
    """The field of vLLM's class that is read here."""

    detokenizer: Detokenizer | None
    """The detokenizer; None for a request that is not answered in words."""


class _Prompt:
    """A prompt that the engine has taken and not yet answered."""

    __slots__ = ("is_looked_up", "num_tokens", "request_id", "results", "shared_ids", "token_hash")

    def __init__(
        self, request_id: RequestId | None, token_ids: Sequence[int], *, is_looked_up: bool, is_shared: bool
    ) -> None:
        self.request_id = request_id
        self.num_tokens = len(token_ids)
        self.shared_ids = token_ids if is_shared and request_id is not None else ()
        self.is_looked_up = is_looked_up
        self.results = _results.get()
        self.token_hash: TokenHash | None = None
        if self.results is not None or (request_id is not None and is_sampled(request_id)):
            self.token_hash = hash_tokens(token_ids)


class EngineWatch:
    """Stands in front of some methods of vLLM's output processor; an error of ours never reaches it.

    Used on the replica's event loop only.

    Args:
        running: the replica's running requests.
        recent: takes the prompts of clients that other clients may share; None keeps none.

    """

    def __init__(self, running: RunningRequests, recent: RecentPrompts | None = None) -> None:
        self._running = running
        self._recent = recent
        self._engine_id_to_prompt: dict[str, _Prompt] = {}
        self._has_requests: Callable[[], bool] = lambda: False
        self._engine_id_to_state: Mapping[str, RequestState] = {}
        self._iteration_stats: IterationStats | None = None  # of the step whose outputs come in
        self._num_preempted = 0
        self._processes: Sequence[BaseProcess] = ()
        self._propagate_error: Callable[[Exception], None] = self._on_error
        self.streams_told = asyncio.Event()
        """Set when vLLM has given the engine's death to every stream, to be passed on to its client."""

    def attach(self, output_processor: Any) -> None:  # noqa: ANN401  vLLM's, or a test's
        """Watch this output processor from now on."""
        self._has_requests = output_processor.has_unfinished_requests
        self._engine_id_to_state = output_processor.request_states
        vllm_hooks.before_outputs(output_processor, self._on_outputs)
        vllm_hooks.before_scheduler_stats(output_processor, self._on_scheduler_stats)
        vllm_hooks.before_errors(output_processor, self._on_error)
        self._propagate_error = output_processor.propagate_error
        vllm_hooks.after_adding(output_processor, self._on_added)
        vllm_hooks.after_aborting(output_processor, self._on_aborted)

    def watch_processes(self, engine_manager: Any) -> None:  # noqa: ANN401  vLLM's, or a test's
        """Know at once when a process of the engine ends: vLLM tidies up before it says so, which can take seconds.

        Where engines are Ray actors, or this very process, there is nothing to watch.
        """
        loop = asyncio.get_running_loop()
        self._processes = getattr(engine_manager, "processes", ())
        for process in self._processes:
            loop.add_reader(process.sentinel, self._on_process_end, loop, process.sentinel)

    def give_up(self, error: Exception) -> None:
        """Let an engine that hangs be one that died: routers and streams are told, and its processes are killed.

        They are told here, because a process that waits for its device may not even die before that answers.

        Args:
            error: vLLM's own for an engine that died, which its streams end with.

        """
        self._propagate_error(error)
        for process in self._processes:
            _kill_with_children(process)

    @contextmanager
    def probing(self) -> Iterator[list[ProbeResult]]:
        """Collect what the engine makes of the prompts that this task sends within, which are the replica's own."""
        results: list[ProbeResult] = []
        token = _results.set(results)
        try:
            yield results
        finally:
            _results.reset(token)

    @property
    def num_unanswered(self) -> int:
        """Prompts without a first output."""
        return len(self._engine_id_to_prompt)

    def _on_added(self, _result: None, request: Any, *_: object, **__: object) -> None:  # noqa: ANN401  EngineCoreRequest
        params = request.sampling_params or request.pooling_params
        self._engine_id_to_prompt[request.request_id] = _Prompt(
            current_request_id.get(),
            request.prompt_token_ids or (),
            is_looked_up=not params.skip_reading_prefix_cache,
            is_shared=not (request.cache_salt or request.lora_request or request.mm_features),
        )
        # No one counts tokens as they come: the count is asked for when the request is over.
        detokenizer = self._engine_id_to_state[request.request_id].detokenizer
        if detokenizer is not None:
            self._running.answering(current_request_id.get(), request.request_id, detokenizer.num_output_tokens)

    def _on_outputs(
        self,
        outputs: Sequence[EngineOutput],
        _timestamp: float | None = None,
        iteration_stats: IterationStats | None = None,
    ) -> None:
        self._iteration_stats = iteration_stats  # vLLM fills it in after this, perhaps in several parts
        if not self._engine_id_to_prompt:  # only decoding: nothing to see
            return
        for output in outputs:
            if output.prefill_stats is None:
                continue
            prompt = self._engine_id_to_prompt.pop(output.request_id, None)
            if prompt is not None:
                self._on_first_output(prompt, output.prefill_stats)

    def _on_first_output(self, prompt: _Prompt, stats: PrefillStats) -> None:
        cached_tokens = stats.num_local_cached_tokens + stats.num_external_cached_tokens
        self._running.prefilled(
            prompt.request_id,
            prompt_tokens=stats.num_prompt_tokens,
            cached_tokens=cached_tokens,
            external_cached_tokens=stats.num_external_cached_tokens,
            uncounted=None if prompt.is_looked_up else NOT_LOOKED_UP,
            token_hash=prompt.token_hash,
            is_own=prompt.results is not None,
        )
        if self._recent is not None and prompt.shared_ids:
            self._recent.add(prompt.shared_ids)
        if prompt.results is not None and prompt.token_hash is not None:
            prompt.results.append(ProbeResult(stats.num_prompt_tokens, prompt.token_hash, cached_tokens))

    def _on_aborted(self, engine_ids: Iterable[str], *_: object, **__: object) -> None:
        for engine_id in engine_ids:
            prompt = self._engine_id_to_prompt.pop(engine_id, None)
            if prompt is not None:
                self._running.uncounted(ABORTED, prompt_tokens=prompt.num_tokens)
        if not self._has_requests():
            # No further step will say so.
            self._running.engine_stepped(EngineState(0, 0, 0.0, self._num_preempted))

    def _on_scheduler_stats(self, stats: SchedulerStats | None) -> None:
        """Take the engine's numbers, once all outputs of a step are processed."""
        if self._iteration_stats is not None:
            self._num_preempted += self._iteration_stats.num_preempted_reqs
            self._iteration_stats = None
        if stats is not None:
            kv_use = round(stats.kv_cache_usage, 4)
            self._running.engine_stepped(
                EngineState(stats.num_waiting_reqs, stats.num_running_reqs, kv_use, self._num_preempted),
                looked_up_tokens=stats.prefix_cache_stats.queries,
                hit_tokens=stats.prefix_cache_stats.hits,
            )

    def _on_process_end(self, loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
        loop.remove_reader(sentinel)
        self._running.engine_died()

    def _on_error(self, _error: Exception) -> None:
        self.streams_told.set()
        self._running.engine_died()


def dead_engine_error() -> Exception:
    """The error with which vLLM's streams end when their engine has died."""
    from vllm.v1.engine.exceptions import EngineDeadError

    error: Exception = EngineDeadError()
    return error


def _kill_with_children(process: BaseProcess) -> None:
    """An engine's workers may be its children, which end with it only if they do not hang themselves."""
    if not process.is_alive():
        return
    with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
        for worker in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
    process.kill()

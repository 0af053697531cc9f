"""vLLM's worker without a model: its steps take the time that the settings say, and sample noise.

Everything above the worker is vLLM's own: HTTP API, tokenising, scheduler, prefix cache, KV events and metrics. vLLM
takes a worker's class by its engine argument `worker_cls`. Adapter: private names of vLLM are listed in
tests/serve_app/test_private_names.py.
"""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from vllm.utils.torch_utils import get_kv_cache_torch_dtype
from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheSpec
from vllm.v1.outputs import KVConnectorOutput, LogprobsLists, LogprobsTensors, ModelRunnerOutput
from vllm.v1.worker.worker_base import CompilationTimes, WorkerBase

from router.belief.tiers import HOST_TOKENS_PER_S
from serve_app.engines.options import ENGINE_MODEL
from serve_app.engines.step_clock import StepClock, num_attended
from serve_app.engines.vllm_transfers import transferred
from serve_app.settings.schema import EngineModelSettings

MEMORY_BYTES = 2**40
"""Enough for any cache: its size is the setting `num_gpu_blocks_override`."""
NUM_NOISE_TOKENS = 256
"""Number of tokens in the middle of the vocabulary through which answers count."""


class SimulatedWorker(WorkerBase):  # type: ignore[misc]  # vLLM is not typed for us
    """Knows of each request how many tokens it has, and what they are only where it is asked how likely they were."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  vLLM's
        super().__init__(*args, **kwargs)
        model = EngineModelSettings.model_validate(self.vllm_config.additional_config[ENGINE_MODEL])
        self._clock = StepClock(model, clock=time.monotonic, sleep=time.sleep)
        self._id_to_prompt_tokens: dict[str, int] = {}
        self._id_to_logprobs: dict[str, int] = {}
        """Number of alternatives to each token, for requests that want log-probabilities."""
        self._id_to_asked_prompt: dict[str, tuple[Sequence[int], int]] = {}
        """Prompts that want log-probabilities and the number of alternatives, until they are computed."""
        self._scheduled = SchedulerOutput.make_empty()

    def init_device(self) -> None:
        """No device is there to be initialised."""

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        """No model is loaded."""

    def get_supported_tasks(self) -> tuple[str, ...]:
        """What the engine offers."""
        return ("generate",)

    def get_kv_cache_spec(self) -> dict[str, KVCacheSpec]:
        """The cache of a model with full attention and this model's sizes, by which vLLM sizes a second tier."""
        model, cache = self.model_config, self.cache_config
        spec = FullAttentionSpec(
            block_size=cache.block_size,
            num_kv_heads=model.get_num_kv_heads(self.parallel_config),
            head_size=model.get_head_size(),
            dtype=get_kv_cache_torch_dtype(cache.cache_dtype, model.dtype),
        )
        return {f"layer.{number}": spec for number in range(model.get_num_layers(self.parallel_config))}

    def get_kv_connector_handshake_metadata(self) -> None:
        """No other worker shakes hands with this one."""

    def get_supported_kv_cache_layouts(self) -> list[str]:
        """One layout is as good as any."""
        return ["NHD"]

    def determine_available_memory(self) -> int:
        """The memory for the KV cache, in bytes."""
        return MEMORY_BYTES

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        """Nothing is allocated."""

    def compile_or_warm_up_model(self) -> CompilationTimes:
        """There is nothing to compile."""
        return CompilationTimes(language_model=0.0, encoder=0.0)

    def execute_model(self, scheduler_output: SchedulerOutput) -> ModelRunnerOutput | None:
        """Note what the step is; vLLM asks for its tokens next, if it has any."""
        for new in scheduler_output.scheduled_new_reqs:
            self._id_to_prompt_tokens[new.req_id] = new.prompt_len
            if new.sampling_params.logprobs is not None:
                self._id_to_logprobs[new.req_id] = new.sampling_params.logprobs
            if new.sampling_params.prompt_logprobs is not None:
                self._id_to_asked_prompt[new.req_id] = (new.prompt_token_ids, new.sampling_params.prompt_logprobs)
        self._scheduled = scheduler_output
        if not scheduler_output.total_num_scheduled_tokens:
            self._forget(scheduler_output)
            return ModelRunnerOutput.with_kv_conn_output_only(self._transfer(scheduler_output))
        return None

    def sample_tokens(self, grammar_output: GrammarOutput | None) -> ModelRunnerOutput:
        """A token for each request whose known tokens are all computed by this step, when its time is over."""
        scheduled = self._scheduled
        id_to_position = {new.req_id: new.num_computed_tokens for new in scheduled.scheduled_new_reqs}
        id_to_known = {request_id: self._id_to_prompt_tokens[request_id] for request_id in id_to_position}
        running = scheduled.scheduled_cached_reqs
        for request_id, computed, answered in zip(
            running.req_ids, running.num_computed_tokens, running.num_output_tokens, strict=True
        ):
            id_to_position[request_id] = computed
            id_to_known[request_id] = self._id_to_prompt_tokens[request_id] + answered
        decoding = {name for name in running.req_ids if id_to_position[name] == id_to_known[name] - 1}
        prefilling = {name: tokens for name, tokens in scheduled.num_scheduled_tokens.items() if name not in decoding}
        self._clock.step(
            prefill_tokens=sum(prefilling.values()),
            num_attended=sum(
                num_attended(tokens, num_before=id_to_position[name]) for name, tokens in prefilling.items()
            ),
            num_decoding=len(decoding),
            decoding_tokens=sum(id_to_position[name] for name in decoding),
        )
        allowed = _allowed_tokens(grammar_output)
        request_ids = list(scheduled.num_scheduled_tokens)
        sampled = []
        for request_id in request_ids:
            position = id_to_position[request_id] + scheduled.num_scheduled_tokens[request_id]
            is_complete = position >= id_to_known[request_id]
            sampled.append([allowed.get(request_id, self._noise(position))] if is_complete else [])
        output = ModelRunnerOutput(
            req_ids=request_ids,
            req_id_to_index={request_id: index for index, request_id in enumerate(request_ids)},
            sampled_token_ids=sampled,
            logprobs=self._logprobs(request_ids, sampled),
            prompt_logprobs_dict={
                request_id: self._prompt_logprobs(*self._id_to_asked_prompt.pop(request_id))
                for request_id, tokens in zip(request_ids, sampled, strict=True)
                if tokens and request_id in self._id_to_asked_prompt
            },
            kv_connector_output=self._transfer(scheduled),
        )
        self._forget(scheduled)
        return output

    def _transfer(self, step: SchedulerOutput) -> KVConnectorOutput | None:
        """What comes back from a second tier costs its time, as if nothing overlapped."""
        done = transferred(step)
        time.sleep(done.num_loaded_blocks * self.cache_config.block_size / HOST_TOKENS_PER_S)
        return done.output

    def _logprobs(self, request_ids: Sequence[str], sampled: Sequence[Sequence[int]]) -> LogprobsLists | None:
        """All tokens are equally likely, where a client asks; the sampled one is first, as vLLM has it."""
        wanted = [self._id_to_logprobs[name] for name in request_ids if name in self._id_to_logprobs]
        if not wanted:
            return None
        shape = (len(request_ids), 1 + max(wanted))
        token_ids = np.tile(np.arange(-1, shape[1] - 1, dtype=np.int32), (shape[0], 1))
        token_ids[:, 0] = [tokens[0] if tokens else 0 for tokens in sampled]
        return LogprobsLists(
            logprob_token_ids=token_ids,
            logprobs=np.full(shape, -math.log(self.vocab_size), dtype=np.float32),
            sampled_token_ranks=np.ones(shape[0], dtype=np.int32),
        )

    def _prompt_logprobs(self, token_ids: Sequence[int], num_alternatives: int) -> LogprobsTensors:
        """The same for each token of a prompt but the first."""
        shape = (len(token_ids) - 1, 1 + num_alternatives)
        wanted_ids = torch.arange(-1, num_alternatives).repeat(shape[0], 1)
        wanted_ids[:, 0] = torch.tensor(token_ids[1:])
        return LogprobsTensors(
            wanted_ids, torch.full(shape, -math.log(self.vocab_size)), torch.ones(shape[0], dtype=torch.int64)
        )

    def _noise(self, position: int) -> int:
        return int(self.vocab_size) // 2 + position % min(NUM_NOISE_TOKENS, int(self.vocab_size) // 4)

    def _forget(self, scheduled: SchedulerOutput) -> None:
        for request_id in scheduled.finished_req_ids:
            self._id_to_prompt_tokens.pop(request_id, None)
            self._id_to_logprobs.pop(request_id, None)
            self._id_to_asked_prompt.pop(request_id, None)


def _allowed_tokens(grammar: GrammarOutput | None) -> Mapping[str, int]:
    """The first token that the grammar of each request allows."""
    if grammar is None:
        return {}
    return {
        request_id: _first_bit(row)
        for request_id, row in zip(grammar.structured_output_request_ids, grammar.grammar_bitmask, strict=False)
    }


def _first_bit(words: "torch.Tensor") -> int:
    """Index of the first bit in 32-bit words, lowest bit first; 0 where none is set, as a real sampler has it then."""
    for index, signed in enumerate(words):
        word = int(signed) & 0xFFFFFFFF
        if word:
            return 32 * index + (word & -word).bit_length() - 1
    return 0

"""vLLM's own scheduler, without a model: which requests run, and which wait for memory, is its decision."""

import json
from itertools import count
from pathlib import Path
from typing import Any

from serve_app.settings.schema import WaitingOrderName


class VllmScheduler:
    """Steps as an engine has them; no answer has a token in common with any other.

    Args:
        folder: where it keeps the configuration of a model that it believes in.
        num_blocks: of one token each, with vLLM's null block.
        max_step_tokens: prefill and decode tokens in one step.
        max_sequences: sequences in one step.
        waiting_order: as in the settings; `shortest` is our scheduler.
        has_priorities: whether it heeds those of the requests.

    """

    def __init__(
        self,
        folder: Path,
        *,
        num_blocks: int,
        max_step_tokens: int,
        max_sequences: int,
        waiting_order: WaitingOrderName = "arrival",
        has_priorities: bool = False,
    ) -> None:
        import torch
        from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.structured_output import StructuredOutputManager

        from serve_app.engines.vllm_scheduler import WarmrouteScheduler

        sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers")
        names = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": num_blocks}
        (folder / "config.json").write_text(json.dumps(names | dict.fromkeys(sizes, 8) | {"vocab_size": 100}))
        config = VllmConfig(
            model_config=ModelConfig(
                model=str(folder), skip_tokenizer_init=True, max_model_len=num_blocks - 1, dtype="float32"
            ),
            scheduler_config=SchedulerConfig(
                max_num_seqs=max_sequences,
                max_num_batched_tokens=max_step_tokens,
                max_model_len=num_blocks - 1,
                is_encoder_decoder=False,
                async_scheduling=False,
                policy="priority" if has_priorities else "fcfs",
            ),
            cache_config=CacheConfig(block_size=1),
        )
        config.cache_config.num_gpu_blocks = num_blocks
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(1, sha256)
        attention = FullAttentionSpec(1, num_kv_heads=1, head_size=1, dtype=torch.float32)
        self._num_blocks = num_blocks
        scheduler_class = WarmrouteScheduler if waiting_order == "shortest" else Scheduler
        self._scheduler: Any = scheduler_class(
            config,
            KVCacheConfig(num_blocks, [], [KVCacheGroupSpec(["layer"], attention)]),
            StructuredOutputManager(config),
            block_size=1,
        )
        self._answer_tokens = count(1000)
        self.num_preempted = 0
        """Times that a request was preempted."""

    def submit(
        self,
        name: str,
        prompt: list[int],
        num_output_tokens: int,
        *,
        priority: int = 0,
        choices: list[str] | None = None,
    ) -> None:
        """Queue a request; with choices, it waits for its grammar."""
        from vllm.sampling_params import SamplingParams, StructuredOutputsParams
        from vllm.v1.request import Request

        structured = None if choices is None else StructuredOutputsParams(choice=choices)
        sampling = SamplingParams(max_tokens=num_output_tokens, ignore_eos=True, structured_outputs=structured)
        request = Request(name, prompt, sampling, None, block_hasher=self._hasher, priority=priority)
        self._scheduler.add_request(request)

    def compile_grammar(self, name: str) -> None:
        """A request's grammar is there; it is only good as long as no token is sampled."""
        self._scheduler.requests[name].structured_output_request.grammar = object()

    def abort(self, name: str) -> None:
        """A client leaves."""
        from vllm.v1.request import RequestStatus

        self._scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def step(self) -> int:
        """One step; returns how many tokens it computed, 0 when there is nothing to do."""
        step = self._scheduler.schedule()
        self.num_preempted += len(step.preempted_req_ids or ())
        if step.total_num_scheduled_tokens:
            self._scheduler.update_from_output(step, self._output(list(step.num_scheduled_tokens)))
        return int(step.total_num_scheduled_tokens)

    def _output(self, names: list[str]) -> Any:
        from vllm.v1.outputs import ModelRunnerOutput

        requests = [self._scheduler.requests[name] for name in names]
        sampled = [
            [next(self._answer_tokens)] if each.num_computed_tokens == each.num_tokens else [] for each in requests
        ]
        return ModelRunnerOutput(names, {name: index for index, name in enumerate(names)}, sampled)

    @property
    def num_waiting(self) -> int:
        """Requests of which nothing was scheduled yet, or that were preempted."""
        return len(self._scheduler.waiting)

    @property
    def used_tokens(self) -> int:
        """Memory of the requests that are running."""
        return self._num_blocks - 1 - int(self._scheduler.kv_cache_manager.block_pool.get_num_free_blocks())

    @property
    def running_names(self) -> list[str]:
        """Requests that are running, in order of their start."""
        return [each.request_id for each in self._scheduler.running]

    def is_over(self, name: str) -> bool:
        """Whether a request has all of its answer."""
        return name not in self._scheduler.requests

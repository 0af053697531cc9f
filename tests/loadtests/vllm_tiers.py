"""vLLM's own scheduler with its offloading connector, without a GPU: which tokens come from where is their decision.

Of the connector, this is the side in the scheduler, with vLLM's `CPUOffloadingManager`. Its other side, which copies
memory and refuses CPU builds, is replaced by one that says that every copy is done at the next step.
"""

import json
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

HOST_BLOCK_BYTES = 4096
"""vLLM aligns the host's blocks to this."""
MAX_STEPS = 100
"""No request here needs more; one that is not over then hangs."""


class Cached(NamedTuple):
    """What vLLM said in its `PrefillStats`, in tokens."""

    local: int
    external: int


class VllmTiers:
    """One engine that serves one prompt at a time.

    Args:
        folder: where it keeps the configuration of a model that it believes in.
        num_blocks: of the GPU's cache, with vLLM's null block.
        num_host_blocks: of the second tier.
        block_size: of both, in tokens.
        is_telling: whether it keeps KV events of both tiers, to be taken.
        is_describing: whether those of the second one say what they are about.

    """

    def __init__(
        self,
        folder: Path,
        *,
        num_blocks: int,
        num_host_blocks: int,
        block_size: int,
        is_telling: bool = False,
        is_describing: bool = False,
    ) -> None:
        import torch
        from vllm.config import (
            CacheConfig,
            KVEventsConfig,
            KVTransferConfig,
            ModelConfig,
            SchedulerConfig,
            VllmConfig,
        )
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec, KVCacheTensor
        from vllm.v1.structured_output import StructuredOutputManager

        max_tokens = num_blocks * block_size
        sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers")
        names = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": max_tokens}
        (folder / "config.json").write_text(json.dumps(names | dict.fromkeys(sizes, 8) | {"vocab_size": 100}))
        offloading = {
            "cpu_bytes_to_use": num_host_blocks * HOST_BLOCK_BYTES,
            "self_describing_kv_events": is_describing,
        }
        self.config = VllmConfig(
            model_config=ModelConfig(
                model=str(folder), skip_tokenizer_init=True, max_model_len=max_tokens, dtype="float32"
            ),
            scheduler_config=SchedulerConfig(
                max_num_seqs=4,
                max_num_batched_tokens=max_tokens,
                max_model_len=max_tokens,
                is_encoder_decoder=False,
                async_scheduling=False,
            ),
            cache_config=CacheConfig(block_size=block_size),
            kv_transfer_config=KVTransferConfig(
                kv_connector="OffloadingConnector", kv_role="kv_both", kv_connector_extra_config=offloading
            ),
            kv_events_config=KVEventsConfig(enable_kv_cache_events=is_telling, publisher="null"),
        )
        self.config.cache_config.num_gpu_blocks = num_blocks
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(block_size, sha256)
        attention = FullAttentionSpec(block_size, num_kv_heads=1, head_size=1, dtype=torch.float32)
        memory_bytes = num_blocks * HOST_BLOCK_BYTES
        memory = KVCacheTensor(memory_bytes, ["layer"], layer_stride=memory_bytes, block_stride=HOST_BLOCK_BYTES)
        self._scheduler = Scheduler(
            self.config,
            KVCacheConfig(num_blocks, [memory], [KVCacheGroupSpec(["layer"], attention)]),
            StructuredOutputManager(self.config),
            block_size=block_size,
        )
        self._told: list[bytes] = []
        if is_telling:
            self._scheduler.kv_event_publisher = self
        self._answer_tokens = count(1000)
        self._names = map(str, count())

    def serve(self, prompt: list[int]) -> Cached:
        """One token is answered; returns what was reused."""
        from vllm.sampling_params import SamplingParams
        from vllm.v1.request import Request

        request = Request(next(self._names), prompt, SamplingParams(max_tokens=1), None, block_hasher=self._hasher)
        stats = request.prefill_stats
        self._scheduler.add_request(request)
        for _ in range(MAX_STEPS):
            self._step()
            if request.is_finished() and not self._scheduler.connector.has_pending_push_work():
                return Cached(stats.num_local_cached_tokens, stats.num_external_cached_tokens)
        raise AssertionError(f"request {request.request_id} is not over after {MAX_STEPS} steps")

    def publish(self, batch: Any) -> None:
        """As vLLM's publishers, on the wire."""
        self._told.append(msgspec.msgpack.encode(batch))

    def take_events(self) -> list[bytes]:
        """Batches since the last time, of both tiers."""
        told, self._told = self._told, []
        return told

    def _step(self) -> None:
        step = self._scheduler.schedule()
        self._scheduler.update_from_output(step, self._output(list(step.num_scheduled_tokens), step))

    def _output(self, names: list[str], step: Any) -> Any:
        """As of a worker that has copied all that it was told to."""
        from vllm.distributed.kv_transfer.kv_connector.v1.offloading.common import OffloadingWorkerMetadata
        from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput

        told = step.kv_connector_metadata
        jobs = OffloadingWorkerMetadata(completed_jobs=dict.fromkeys([*told.load_jobs, *told.store_jobs], 1))
        requests = [self._scheduler.requests[name] for name in names]
        sampled = [
            [next(self._answer_tokens)] if each.num_computed_tokens == each.num_tokens else [] for each in requests
        ]
        loaded = {job.req_id for job in told.load_jobs.values()}
        return ModelRunnerOutput(
            names,
            {name: index for index, name in enumerate(names)},
            sampled,
            kv_connector_output=KVConnectorOutput(finished_recving=loaded, kv_connector_worker_meta=jobs),
        )

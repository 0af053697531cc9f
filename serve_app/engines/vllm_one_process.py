"""An engine whose worker runs in the process of vLLM's scheduler.

Ray has vLLM start a process for the worker on CPUs, for a thread setting that only a model needs, and vLLM's scheduler
keeps a core busy while it waits for it. Adapter: private names of Ray and vLLM are listed in
tests/serve_app/test_private_names.py.
"""

from typing import Any

from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from vllm.v1.executor.uniproc_executor import UniProcExecutor


class OneProcessEngine(VLLMEngine):  # type: ignore[misc]  # Ray ships no types for it
    """Ray's engine otherwise."""

    def _start_async_llm_engine(self, args: Any, vllm_config: Any, placement_group: Any) -> Any:  # noqa: ANN401  vLLM's
        vllm_config.parallel_config.distributed_executor_backend = UniProcExecutor
        return super()._start_async_llm_engine(args, vllm_config, placement_group)

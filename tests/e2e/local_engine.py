"""A vLLM with a real model in a test's own process, without Serve around it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def running_llm(model: str, **options: Any) -> Iterator[Any]:
    """An LLM on one thread with 1 GiB of KV cache at most, of which nothing is left afterwards."""
    from vllm import LLM

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        environment.setenv("OMP_NUM_THREADS", "1")
        engine = LLM(model, enforce_eager=True, **options)
        client: Any = engine.llm_engine.engine_core
        try:
            yield engine
        finally:
            client.shutdown()
            # Its shutdown leaves these to the garbage collector, which warns in whatever test it comes by.
            client.output_queue_thread.join()
            client.resources.ctx.destroy(linger=0)

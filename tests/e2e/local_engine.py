"""A vLLM with a real model in a test's own process, without Serve around it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.engine_processes import fork_engines


@contextlib.contextmanager
def running_llm(model: str, **options: Any) -> Iterator[Any]:
    """An LLM on one thread with 1 GiB of KV cache at most, of which nothing is left afterwards."""
    fork_engines()
    from vllm import LLM

    engine = LLM(model, enforce_eager=True, **options)
    client: Any = engine.llm_engine.engine_core
    try:
        yield engine
    finally:
        client.shutdown()
        # Its shutdown leaves these to the garbage collector, which warns in whatever test it comes by.
        client.output_queue_thread.join()
        client.resources.ctx.destroy(linger=0)

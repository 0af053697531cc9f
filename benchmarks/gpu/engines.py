"""Starts vLLM's own servers, one after the other because each measures how much memory is free, and stops them."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.gpu.engine import MODEL_NAME, TIMEOUT_S, Engine
from benchmarks.gpu.model import Shape, write_model
from benchmarks.harness import vllm_server
from benchmarks.harness.machine import Machine

GPU_BLOCK_SIZE, CPU_BLOCK_SIZE = 16, 32
CPU_KV_GIB = 1
MARGIN_TOKENS = 64
"""That a prompt may be shorter than what the model reads."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What all engines have alike."""

    shape: Shape
    max_prompt_tokens: int
    """Tokens of the longest prompt, with its answer."""
    max_step_tokens: int
    """Tokens of one step (vLLM's `max_num_batched_tokens`)."""
    memory_share: float
    """Share of the GPU's memory, for each engine."""
    kv_tokens: int | None = None
    """Tokens of each KV cache; None for as many as the memory has room for."""
    host_gib: float | None = None
    """GiB of a second tier in the host's memory; None for none."""


@contextmanager
def running_engines(count: int, options: EngineOptions, machine: Machine, *, folder: Path) -> Iterator[list[str]]:
    """The URLs of that many engines, until the block ends.

    Args:
        count: how many.
        options: of each.
        machine: where.
        folder: for the model and the engines' logs.

    Raises:
        MeasurementError: one did not become ready.

    """
    model = (folder / options.shape).resolve()
    write_model(model, options.shape, max_model_len=_max_model_len(options))
    arguments = vllm_options(model, options, machine)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                vllm_server.running(arguments, variables=variables(machine), log=folder / f"engine-{number}.log")
            )
            for number in range(count)
        ]


@asynccontextmanager
async def connected(urls: list[str]) -> AsyncIterator[list[Engine]]:
    """Their clients."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(new_client(url)) for url in urls]
        yield [Engine(client, clock=time.perf_counter) for client in clients]


def new_client(url: str) -> httpx.AsyncClient:
    """A client for any number of requests at a time, each on its own connection: none is lost with an idle one that the
    server closes.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=url, limits=limits, timeout=TIMEOUT_S, trust_env=False)


def vllm_options(model: Path, options: EngineOptions, machine: Machine) -> dict[str, Any]:
    """What vLLM is told."""
    block_size = GPU_BLOCK_SIZE if machine.has_gpu else CPU_BLOCK_SIZE
    told: dict[str, Any] = {
        "model": str(model),
        "served_model_name": MODEL_NAME,
        "load_format": "dummy",
        "max_model_len": _max_model_len(options),
        "max_num_batched_tokens": options.max_step_tokens,
        "block_size": block_size,
        "enable_prefix_caching": True,
        "enable_prompt_tokens_details": True,
    }
    if options.kv_tokens is not None:
        told["num_gpu_blocks_override"] = options.kv_tokens // block_size
    if options.host_gib is not None:
        told["kv_offloading_size"] = options.host_gib
    if machine.has_gpu:
        told["gpu_memory_utilization"] = options.memory_share
    else:
        told["enforce_eager"] = True  # compiling takes longer than the tiny model is worth
    return told


def variables(machine: Machine) -> dict[str, str]:
    """An engine's environment. In development mode its cache can be reset; it listens on the loopback only."""
    always = {"VLLM_SERVER_DEV_MODE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    return always if machine.has_gpu else {**always, "VLLM_CPU_KVCACHE_SPACE": str(CPU_KV_GIB), "OMP_NUM_THREADS": "1"}


def _max_model_len(options: EngineOptions) -> int:
    return options.max_prompt_tokens + MARGIN_TOKENS

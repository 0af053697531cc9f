"""What a choice among waiting requests costs vLLM's scheduler, on its own requests and block pool."""

import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from rich.table import Table

from loadtests.report.statistics import percentile
from loadtests.report.tables import make_table

BLOCK_SIZE = 16
NUM_PROMPT_TOKENS = 8_000
NUM_DOCUMENTS = 8
NUM_DOCUMENT_BLOCKS = 100
NUM_CHOICES = 200


def choice_costs_s(num_waiting: int) -> list[float]:
    """Seconds of each choice, while a document's blocks are evicted or computed again before every one.

    Prompts of 8,000 tokens begin with one of eight documents.
    """
    queue, pool, documents = _make_queue(num_waiting)
    costs_s = []
    for number in range(NUM_CHOICES):
        hashes = documents[number % NUM_DOCUMENTS]
        cut = Random(number).randrange(NUM_DOCUMENT_BLOCKS)
        for index, block_hash in enumerate(hashes):
            _hold(pool, block_hash, index, is_held=index < cut)
        started_s = time.perf_counter()
        queue.peek_request()
        costs_s.append(time.perf_counter() - started_s)
    return costs_s


def cost_table(num_waiting_to_costs_s: Mapping[int, Sequence[float]]) -> Table:
    """A line for each number of waiting requests."""
    table = make_table("A choice of vLLM's scheduler, in ms", left=(), right=("waiting requests", "p50", "p99"))
    for num_waiting, costs_s in num_waiting_to_costs_s.items():
        table.add_row(f"{num_waiting:,}", *(f"{1000 * percentile(costs_s, percent):.3f}" for percent in (50, 99)))
    return table


def _make_queue(num_waiting: int) -> tuple[Any, Any, list[list[Any]]]:
    import torch
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.request import Request

    from serve_app.engines.vllm_scheduler import ShortestFirstQueue, make_prefix_reader

    init_none_hash(sha256)
    hasher = get_request_block_hasher(BLOCK_SIZE, sha256)
    pool = BlockPool(num_gpu_blocks=1000, enable_caching=True, hash_block_size=BLOCK_SIZE)
    attention = FullAttentionSpec(BLOCK_SIZE, num_kv_heads=1, head_size=1, dtype=torch.float32)
    config = KVCacheConfig(1000, [], [KVCacheGroupSpec(["layer"], attention)])
    queue = ShortestFirstQueue(make_prefix_reader(config, pool, hash_block_size=BLOCK_SIZE), has_priorities=False)
    rng = Random(1)
    documents: dict[int, list[Any]] = {}
    for number in range(num_waiting):
        document = [number % NUM_DOCUMENTS] * NUM_DOCUMENT_BLOCKS * BLOCK_SIZE
        tokens = document + [rng.randrange(1000) for _ in range(NUM_PROMPT_TOKENS - len(document))]
        request = Request(str(number), tokens, SamplingParams(max_tokens=1), None, block_hasher=hasher)
        documents[number % NUM_DOCUMENTS] = request.block_hashes[:NUM_DOCUMENT_BLOCKS]
        queue.add_request(request)
    return queue, pool, [documents[number % len(documents)] for number in range(NUM_DOCUMENTS)]


def _hold(pool: Any, block_hash: Any, index: int, *, is_held: bool) -> None:  # noqa: ANN401  vLLM's
    """Let a block of the pool have these tokens, or have them no more."""
    from vllm.v1.core.kv_cache_utils import make_block_hash_with_group_id

    key, block = make_block_hash_with_group_id(block_hash, 0), pool.blocks[index + 1]
    if is_held != (pool.get_cached_block(block_hash, [0]) is not None):
        if is_held:
            pool.cached_block_hash_to_block.insert(key, block)
        else:
            pool.cached_block_hash_to_block.pop(key, block.block_id)

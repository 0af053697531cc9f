"""A simulated engine with a second tier: vLLM's own offloading in its scheduler, under vLLM's own front end.

`make test` runs it in a process of its own, because vLLM leaves some of itself behind in one.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from router import RequestId
from serve_app.messages.receipts import Prefilled, Receipt
from serve_app.replica.running_requests import RunningRequests, current_request_id
from serve_app.replica.vllm_host_tier import host_capacity_tokens, kv_bytes_per_token
from serve_app.replica.vllm_outputs import EngineWatch
from tests.serve_app.simulated_engines import BLOCK_SIZE, ask, running_engine

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, of an engine that is started in this process
]

HOST_MIB = 16
PROMPT = list(range(500, 905))
"""25 blocks and a bit. Of one that ends with a block, vLLM reloads that block, even where the GPU has it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Any]:
    """Started once, with 1,600 tokens in its cache and more in the host's memory."""
    with running_engine(kv_offloading_size=HOST_MIB / 1024) as engine:
        yield engine


async def test_receipts_tell_what_came_back(engine: Any) -> None:
    """A prompt is computed; four others take its place; what comes back is told apart, and what was there is not."""
    receipts: list[Receipt] = []
    running = RunningRequests(receipts.append, clock=lambda: 0.0)
    EngineWatch(running).attach(engine.output_processor)
    current_request_id.set(RequestId("ours"))
    prompts = [PROMPT, *([number, *PROMPT[1:]] for number in range(4)), PROMPT, PROMPT]
    for number, prompt in enumerate(prompts):
        await ask(engine, str(number), prompt)
    told = [(each.cached_tokens, each.external_cached_tokens) for each in receipts if isinstance(each, Prefilled)]
    assert told[:5] == [(0, 0)] * 5
    assert told[5:] == [(25 * BLOCK_SIZE, 25 * BLOCK_SIZE), (25 * BLOCK_SIZE, 0)]


async def test_its_size_is_known(engine: Any) -> None:
    """By the model's sizes, which are those that vLLM's scheduler counts by."""
    capacity_tokens = host_capacity_tokens(engine.vllm_config, environment={})
    assert capacity_tokens == HOST_MIB * 2**20 // kv_bytes_per_token(engine.vllm_config)
    assert capacity_tokens > 1600

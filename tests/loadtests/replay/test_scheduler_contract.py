"""The simulator's engine beside vLLM's own scheduler, step by step, in so little memory that requests wait for it, and
are preempted. Blocks are of one token: of larger ones, the engine counts those that are not full together.
"""

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from loadtests.replay.engine import Engine, EngineOptions
from loadtests.replay.trace import TraceRequest
from router import BlockHash, RequestId, hash_blocks
from serve_app.messages.receipts import Finished, Prefilled
from serve_app.settings.schema import WaitingOrderName
from tests.loadtests.vllm_scheduler import VllmScheduler

NUM_BLOCKS = 60
MAX_STEP_TOKENS = 12
MAX_SEQUENCES = 5


def make_engine(waiting_order: WaitingOrderName) -> Engine:
    """As long as a step takes, so many tokens it computes."""
    options = EngineOptions(
        step_s=0,
        prefill_tokens_per_s=1,
        decode_s=1,
        decode_context_s=0,
        max_step_tokens=MAX_STEP_TOKENS,
        max_sequences=MAX_SEQUENCES,
        kv_capacity_tokens=NUM_BLOCKS,
        waiting_order=waiting_order,
    )
    return Engine(options, block_size=1)


@pytest.mark.usefixtures("vllm")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("waiting_order", ["arrival", "shortest"])
@pytest.mark.parametrize("seed", [0, 127, 128])
def test_requests_wait_and_are_preempted_as_in_vllm(
    seed: int, waiting_order: WaitingOrderName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step, as many tokens are computed, as many requests wait and as much memory is in use."""
    monkeypatch.setattr("serve_app.engines.waiting_order.ANSWER_TOKENS", 1)  # prompts are so short here
    rng = Random(seed)
    vllm = VllmScheduler(
        tmp_path,
        num_blocks=NUM_BLOCKS,
        max_step_tokens=MAX_STEP_TOKENS,
        max_sequences=MAX_SEQUENCES,
        waiting_order=waiting_order,
    )
    engine = make_engine(waiting_order)
    num_waited = 0
    begun: list[int] = []
    for step in range(1500):
        if step < 1000 and rng.random() < 0.12:
            prompt = [rng.randrange(2) for _ in range(rng.randint(1, 30))]
            num_output_tokens = rng.randint(1, 25)
            vllm.submit(str(step), prompt, num_output_tokens)
            hashes = tuple(hash_blocks(prompt, block_size=1, root=BlockHash(1)))
            answer_hashes = tuple(BlockHash(1000 * step + index) for index in range(num_output_tokens))
            engine.submit(RequestId(str(step)), TraceRequest(0, len(prompt), num_output_tokens, hashes, answer_hashes))
        num_tokens = vllm.step()
        assert (engine.start_step() or 0) == num_tokens, step
        outputs = engine.finish_step()
        assert all(vllm.is_over(each.request_id) for each in outputs if isinstance(each, Finished))
        begun += [int(each.request_id) for each in outputs if isinstance(each, Prefilled)]
        assert (engine.num_waiting, engine.used_tokens) == (vllm.num_waiting, vllm.used_tokens)
        num_waited += engine.num_waiting
    assert engine.num_waiting == engine.active_tokens == engine.used_tokens == 0
    assert num_waited > 100
    num_overtaking = sum(earlier > later for earlier, later in pairwise(begun))
    assert num_overtaking == 0 if waiting_order == "arrival" else num_overtaking > 10
    assert vllm.num_preempted > 10

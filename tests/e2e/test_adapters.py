"""The router's keys beside a real engine with LoRA adapters: each has a cache of its own.

Not through the whole path: with adapters, vLLM 0.29's engine on a CPU dies of `prompt_logprobs` computed beside other
requests, and other tests of the one server ask for these.
"""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from serve_app.demo.model import build_demo_model
from tests.adapters import build_adapter
from tests.e2e.expected_cache import ExpectedCache
from tests.e2e.local_engine import running_llm
from tests.servers import DEMO_MODEL

NUM_PROMPTS = 60
BLOCK_SIZE = 32
ADAPTERS = ("formal", "casual")
TEXTS = ("A question that fills a block. " * 8, "Another one of the same length. " * 8, "Short. ")


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("application")  # Ray joins the cluster before vLLM imports it, which would decide how
@pytest.mark.filterwarnings("ignore")  # vLLM's own
async def test_the_engine_reuses_what_the_keys_say(tmp_path: Path) -> None:
    """60 chats for the base model, by its name and by none, and for two adapters: as many tokens, as many cached.

    The adapters bring other tokenizers and templates along, which change nothing.
    """
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    build_demo_model(DEMO_MODEL)
    for name in ADAPTERS:
        build_adapter(tmp_path / name, DEMO_MODEL, seed=name)
    options: dict[str, Any] = {"max_model_len": 2048, "block_size": BLOCK_SIZE}
    options |= {"num_gpu_blocks_override": 600, "enable_lora": True, "max_loras": 2, "max_lora_rank": 8}
    loading = {"model_id": "demo", "model_source": str(DEMO_MODEL)}
    cache = ExpectedCache(
        {"model_loading_config": loading, "accelerator_config": {"kind": "cpu"}, "engine_kwargs": options}
    )
    adapters = {name: LoRARequest(name, place, str(tmp_path / name)) for place, name in enumerate(ADAPTERS, start=1)}
    with running_llm(str(DEMO_MODEL), **options) as engine:
        rng = Random("adapters")
        num_cached, answers = 0, set()
        for _ in range(NUM_PROMPTS):
            model = rng.choice(("demo", "", *ADAPTERS))
            messages: Any = [
                {"role": role, "content": rng.choice(TEXTS)}
                for role in ("user", "assistant", "user")[: rng.choice((1, 3))]
            ]
            expected = await cache.ask({"model": model, "messages": messages})
            params = SamplingParams(max_tokens=4, temperature=0)
            (output,) = engine.chat(messages, params, use_tqdm=False, lora_request=adapters.get(model))
            assert (len(output.prompt_token_ids or ()), output.num_cached_tokens) == expected
            num_cached += expected[1]
            if messages == [{"role": "user", "content": TEXTS[0]}]:
                answers.add((model or "demo", tuple(output.outputs[0].token_ids)))
        assert num_cached > NUM_PROMPTS * BLOCK_SIZE
        assert len(answers) == len({tokens for _, tokens in answers}) == 1 + len(ADAPTERS)

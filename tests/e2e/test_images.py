"""The router's keys beside a real engine that takes images: it reuses what the keys say, image by image."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from serve_app.demo.model import build_demo_model
from tests.e2e.expected_cache import ExpectedCache
from tests.e2e.local_engine import running_llm
from tests.servers import DEMO_MODEL
from tests.vision_model import build_vision_model, image_url

NUM_PROMPTS = 40
BLOCK_SIZE = 32
TEXTS = ("Short. ", "Words that fill a block or two around an image, one by one, to be reused. " * 2)


def content(rng: Random) -> list[dict[str, Any]]:
    """Texts and images in some order, each of few, so that many prompts begin alike."""
    parts: list[dict[str, Any]] = []
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.6:
            parts.append({"type": "image_url", "image_url": {"url": image_url(rng.choice(("red", "blue")))}})
        else:
            parts.append({"type": "text", "text": rng.choice(TEXTS)})
    return parts


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("application")  # Ray joins the cluster before vLLM imports it, which would decide how
@pytest.mark.filterwarnings("ignore")  # vLLM's own
async def test_the_engine_reuses_what_the_keys_say(tmp_path: Path) -> None:
    """40 chats, one after the other: as many tokens, and as many of them cached."""
    from vllm import SamplingParams

    model = tmp_path / "vision"
    build_demo_model(DEMO_MODEL)
    build_vision_model(model, DEMO_MODEL)
    options: dict[str, Any] = {"max_model_len": 1024, "block_size": BLOCK_SIZE}
    options |= {"num_gpu_blocks_override": 600, "limit_mm_per_prompt": {"image": 4}, "allowed_media_domains": []}
    loading = {"model_id": "m", "model_source": str(model)}
    cache = ExpectedCache(
        {"model_loading_config": loading, "accelerator_config": {"kind": "cpu"}, "engine_kwargs": options}
    )
    with running_llm(str(model), **options) as engine:
        rng = Random("images")
        num_cached = 0
        for _ in range(NUM_PROMPTS):
            messages: Any = [{"role": "user", "content": content(rng)}]
            expected = await cache.ask({"model": "m", "messages": messages})
            (output,) = engine.chat(messages, SamplingParams(max_tokens=1), use_tqdm=False)
            assert (len(output.prompt_token_ids or ()), output.num_cached_tokens) == expected
            num_cached += expected[1]
        assert num_cached > NUM_PROMPTS * BLOCK_SIZE

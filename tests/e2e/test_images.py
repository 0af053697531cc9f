"""The router's keys beside a real engine that takes images: it reuses what the keys say, image by image."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from router import hash_blocks, root_hash
from router.blocks import cacheable_tokens
from serve_app.demo_model import build_demo_model
from tests.e2e.conftest import DEMO_MODEL
from tests.vision_model import build_vision_model, image_url

BLOCK_SIZE = 32
NUM_PROMPTS = 40
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
@pytest.mark.filterwarnings("ignore")  # vLLM's own
async def test_the_engine_reuses_what_the_keys_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 chats, one after the other, from an empty cache on: as many tokens, and as many of them cached."""
    from vllm import LLM, SamplingParams

    from serve_app.prompt import PromptReader

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = tmp_path / "vision"
    build_demo_model(DEMO_MODEL)
    build_vision_model(model, DEMO_MODEL)
    options: dict[str, Any] = {"max_model_len": 1024, "block_size": BLOCK_SIZE, "enforce_eager": True}
    options |= {"num_gpu_blocks_override": 600, "limit_mm_per_prompt": {"image": 4}}
    reader = PromptReader(
        {
            "model_loading_config": {"model_id": "m", "model_source": str(model)},
            "accelerator_config": {"kind": "cpu"},
            "engine_kwargs": options,
        },
        max_memo_bytes=0,
    )
    engine = LLM(str(model), **options)
    try:
        num_cached = await ask_both(reader, engine, SamplingParams(max_tokens=1))
    finally:
        engine.llm_engine.engine_core.shutdown()
    assert num_cached > NUM_PROMPTS * BLOCK_SIZE


async def ask_both(reader: Any, engine: Any, params: Any) -> int:
    """Compare for each prompt; returns how many tokens were cached of all."""
    root = root_hash(model="m", adapter="", tenant="", cache_salt="")
    held: set[int] = set()
    rng = Random("images")
    num_cached = 0
    for _ in range(NUM_PROMPTS):
        messages = [{"role": "user", "content": content(rng)}]
        prompt = await reader.read({"model": "m", "messages": messages})
        hashes = hash_blocks(prompt.token_ids, block_size=BLOCK_SIZE, root=root)
        num_held = next((place for place, each in enumerate(hashes) if each not in held), len(hashes))
        expected = cacheable_tokens(len(prompt.token_ids), num_blocks=num_held, block_size=BLOCK_SIZE)
        (output,) = engine.chat(messages, params, use_tqdm=False)
        assert (len(output.prompt_token_ids), output.num_cached_tokens) == (len(prompt.token_ids), expected)
        held.update(hashes)
        num_cached += expected
    return num_cached

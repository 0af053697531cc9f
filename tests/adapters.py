"""LoRA adapters with random weights, for any model with Llama's attention."""

import json
from pathlib import Path
from typing import Any

RANK = 8
TARGETS = ("q_proj", "v_proj")


def build_adapter(path: Path, model: Path, *, seed: str) -> None:
    """Write an adapter of `model` in PEFT's format; what it says differs from what the model says.

    It brings another tokenizer and another chat template along, as trained adapters may.
    """
    import torch
    from safetensors.torch import save_file

    config: dict[str, Any] = json.loads((model / "config.json").read_text())
    width, num_layers = config["hidden_size"], config["num_hidden_layers"]
    generator = torch.Generator().manual_seed(sum(seed.encode()))
    weights = {
        f"base_model.model.model.layers.{layer}.self_attn.{target}.{half}.weight": 0.5
        * torch.randn(shape, generator=generator)
        for layer in range(num_layers)
        for target in TARGETS
        for half, shape in (("lora_A", (RANK, width)), ("lora_B", (width, RANK)))
    }
    path.mkdir(parents=True, exist_ok=True)
    save_file(weights, path / "adapter_model.safetensors")
    adapter = {
        "base_model_name_or_path": str(model),
        "bias": "none",
        "lora_alpha": 2 * RANK,
        "peft_type": "LORA",
        "r": RANK,
        "target_modules": list(TARGETS),
        "task_type": "CAUSAL_LM",
    }
    (path / "adapter_config.json").write_text(json.dumps(adapter))
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    tokenizer_config = json.loads((model / "tokenizer_config.json").read_text())
    tokenizer_config["chat_template"] = "{% for message in messages %}{{ message.content }}{% endfor %}"
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))

"""A model's folder without weights: vLLM makes random ones of that shape (`--load-format dummy`).

What is computed is what the real model would compute, in as much time and memory; only the text is noise.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from serve_app.demo.model import DEFAULT_CORPUS, END_IDS, write_json, write_tokenizer


class Shape(StrEnum):
    """The model whose sizes are taken."""

    LLAMA_8B = "llama-8b"
    """Llama 3.1 8B's: 16 GB of weights, 128 kB of KV cache a token."""
    TINY = "tiny"
    """The demo model's, for a dry run on a CPU."""


_SHAPE_TO_SIZES: Mapping[Shape, Mapping[str, int | bool]] = {
    Shape.LLAMA_8B: {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
    Shape.TINY: {
        "vocab_size": 8192,
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
}


def write_model(folder: Path, shape: Shape, *, max_model_len: int) -> None:
    """Configuration and tokenizer of a Llama that reads at most that many tokens.

    The tokenizer knows fewer tokens than a large model's vocabulary has, and what it does not know has no text.
    """
    from transformers import LlamaConfig

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, DEFAULT_CORPUS, max_length=max_model_len)
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        max_position_embeddings=max_model_len,
        dtype="bfloat16",
        **_SHAPE_TO_SIZES[shape],
        **END_IDS,
    )
    config.save_pretrained(folder)
    write_json(folder / "generation_config.json", dict(END_IDS))

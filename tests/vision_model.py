"""A tiny Idefics3 with random weights and the demo model's tokenizer, made on the spot, and images for it."""

import base64
import io
import json
from pathlib import Path
from typing import Any

TILE_SIZE = 64
"""An image is cut into tiles of so many pixels a side, once it is twice as wide."""
PATCH_SIZE = 8
SCALE_FACTOR = 2
CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{ '<|im_start|>' ~ message.role ~ '\n' }}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for part in message.content -%}{{ part.text if part.type == 'text' else '<image>' }}{%- endfor -%}"
    "{%- endif -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
)


def build_vision_model(path: Path, demo_model: Path) -> None:
    """Write the model's folder. Every image of one shape is as many tokens, whatever is on it."""
    import torch
    from transformers import AutoTokenizer, Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = AutoTokenizer.from_pretrained(demo_model)
    tokenizer.chat_template = CHAT_TEMPLATE
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(
            size={"longest_edge": 2 * TILE_SIZE}, max_image_size={"longest_edge": TILE_SIZE}
        ),
        tokenizer=tokenizer,
        image_seq_len=(TILE_SIZE // PATCH_SIZE) ** 2 // SCALE_FACTOR**2,
    )
    text: dict[str, Any] = json.loads((demo_model / "config.json").read_text())
    config = Idefics3Config(
        image_token_id=processor.image_token_id,
        scale_factor=SCALE_FACTOR,
        text_config=text | {"vocab_size": len(tokenizer), "num_hidden_layers": 2, "tie_word_embeddings": False},
        vision_config={
            "hidden_size": 32,
            "image_size": TILE_SIZE,
            "intermediate_size": 64,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "patch_size": PATCH_SIZE,
        },
    )
    torch.manual_seed(0)
    Idefics3ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(path)
    processor.save_pretrained(path)


def image_url(colour: str) -> str:
    """An image of nothing but that, as a data URL."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (80, 60), colour).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

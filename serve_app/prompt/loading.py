"""Loads what reads prompts, which imports vLLM and takes seconds."""

import gc
from typing import TYPE_CHECKING, Any

from serve_app.settings.schema import TokenizerName

if TYPE_CHECKING:
    from serve_app.prompt.vllm_reader import PromptReader


def load_prompt_reader(llm: dict[str, Any], tokenizer: TokenizerName) -> "PromptReader":
    """A reader by the settings `llm` and `tokenizer`. To be called in a thread."""
    from serve_app.prompt.vllm_reader import PromptReader

    reader = PromptReader(llm, tokenizer=tokenizer)
    gc.collect()
    gc.freeze()  # to collect among all that was imported would stop every decision for a third of a second
    return reader

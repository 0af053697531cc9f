"""Build a tiny Llama with random weights and a real chat tokenizer.

The demo and the tests need a model that every engine loads in seconds and that no one has to
download. What it says is noise; what matters is that its prompts have realistic token counts
and that each turn of a conversation begins with exactly the tokens of the turn before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

BUILDER_VERSION: Final = 2
"""Raise it whenever the same corpus would give another model."""

VOCAB_SIZE: Final = 8192
MAX_LENGTH: Final = 32768
SEED: Final = 20250612

PAD_TOKEN: Final = "<|endoftext|>"  # noqa: S105  a token of text
START_TOKEN: Final = "<|im_start|>"  # noqa: S105
END_TOKEN: Final = "<|im_end|>"  # noqa: S105
SPECIAL_TOKENS: Final = (PAD_TOKEN, START_TOKEN, END_TOKEN)  # with the ids 0, 1 and 2
END_IDS: Final[Mapping[str, int | None]] = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}

WORKLOAD: Final = Path(__file__).parent / "texts"
DEFAULT_CORPUS: Final = (WORKLOAD / "support_desk.jsonl", WORKLOAD / "corpus.txt")

_FINGERPRINT: Final = "demo_model.json"
_REQUIRED: Final = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")

# Nothing is trimmed, and every message closes its own turn (tool results too, which other
# templates gather into one). A rendering therefore never depends on what follows, and a cached
# prefix stays valid for the rest of the conversation. What most messages are goes first, and
# without a macro: a router renders each of them again at every turn.
CHAT_TEMPLATE: Final = r"""
{%- macro text(content) -%}
  {%- if content is string -%}
    {{- content -}}
  {%- elif content is iterable -%}
    {%- for part in content -%}{{- part.text | default('') -}}{%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- set opening = messages[0].role == 'system' if messages else false -%}
{%- if tools -%}
  {{- '<|im_start|>system\n' -}}
  {{- text(messages[0].content) ~ '\n\n' if opening -}}
  {{- '# Tools\n\nThese functions are available, one JSON schema a line:\n<tools>' -}}
  {%- for tool in tools -%}{{- '\n' ~ tool | tojson -}}{%- endfor -%}
  {{- '\n</tools>\n\nTo call a function, answer with its name and arguments as JSON:\n' -}}
  {{- '<tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call><|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role == 'tool' -%}
    {{- '<|im_start|>user\n<tool_response>\n' ~ text(message.content) ~ '\n</tool_response>' -}}
    {{- '<|im_end|>\n' -}}
  {%- elif not (tools and opening and loop.first) -%}
    {{- '<|im_start|>' ~ message.role ~ '\n' -}}
    {%- if message.content is string -%}
      {{- message.content -}}
    {%- else -%}
      {%- for part in message.content or [] -%}{{- part.text -}}{%- endfor -%}
    {%- endif -%}
    {%- for call in (message.tool_calls or [] if 'tool_calls' in message else []) -%}
      {%- set function = call.function or call -%}
      {%- set arguments = function.arguments or {} -%}
      {{- '\n' if message.content or not loop.first -}}
      {{- '<tool_call>\n{"name": ' ~ function.name | tojson ~ ', "arguments": ' -}}
      {{- arguments if arguments is string else arguments | tojson -}}
      {{- '}\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>\n' -}}
  {%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\n' if add_generation_prompt -}}
""".strip()


def build_demo_model(path: Path, corpus: Sequence[Path] | None = None) -> None:
    """Write the model folder `path`, unless it already holds this very model.

    The folder appears in one rename, so readers see a whole model or none. A folder that this
    function did not make is never replaced.
    """
    sources = DEFAULT_CORPUS if corpus is None else tuple(corpus)
    if is_current(path, sources):
        return
    if path.exists() and not (path / _FINGERPRINT).exists() and any(path.iterdir()):
        message = f"{path} holds something other than a demo model"
        raise FileExistsError(message)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        # Taken before the texts are read: a corpus that is edited at the same time leads to one build more.
        fingerprint = _fingerprint(sources)
        write_weights(unfinished, write_tokenizer(unfinished, sources))
        write_json(unfinished / _FINGERPRINT, fingerprint)
        if path.exists():
            path.rename(replaced)
        try:
            unfinished.rename(path)
        except OSError:
            # Another process may have put the same model there in the meantime.
            if not is_current(path, sources):
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def is_current(path: Path, corpus: Sequence[Path] | None = None) -> bool:
    """Tell whether `path` holds the model that a build from `corpus` would give."""
    try:
        stored = json.loads((path / _FINGERPRINT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    sources = DEFAULT_CORPUS if corpus is None else corpus
    complete = all((path / name).is_file() for name in _REQUIRED)
    return complete and stored == _fingerprint(sources)


def _fingerprint(corpus: Sequence[Path]) -> dict[str, Any]:
    hashes = [hashlib.sha256(source.read_bytes()).hexdigest() for source in corpus]
    return {"builder": BUILDER_VERSION, "corpus": hashes}


def texts_of(source: Path) -> Iterator[str]:
    """Yield what the tokenizer learns from, each text once however often a file repeats it."""
    content = source.read_text(encoding="utf-8")
    if source.suffix != ".jsonl":
        yield content
        return
    found: dict[str, None] = {}
    for line in content.splitlines():
        record = json.loads(line)
        found.update((json.dumps(tool), None) for tool in record.get("tools") or ())
        for message in record["messages"]:
            calls = message.get("tool_calls") or ()
            found.update((json.dumps(call["function"]), None) for call in calls)
            if isinstance(message.get("content"), str):
                found[message["content"]] = None
    yield from found


def write_tokenizer(folder: Path, corpus: Sequence[Path], *, max_length: int = MAX_LENGTH) -> int:
    """Train and save the tokenizer of a model that reads so many tokens; return how many it knows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [text for source in corpus for text in texts_of(source)]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    # Written by hand, because what `save_pretrained` puts here differs between releases.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "eos_token": END_TOKEN,
        "pad_token": PAD_TOKEN,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", settings)
    return int(tokenizer.get_vocab_size())


def write_weights(
    folder: Path, vocab_size: int, *, ends: Mapping[str, int | None] = END_IDS, num_layers: int = 4
) -> None:
    """Save a tiny random Llama; `ends` are the ids of the tokens that begin, end and pad a text."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        **ends,
    )
    with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers alone
        torch.manual_seed(SEED)
        model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    write_json(folder / "generation_config.json", dict(ends))


def write_json(target: Path, value: dict[str, Any]) -> None:
    """Write JSON, with two spaces an indent."""
    target.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

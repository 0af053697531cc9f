"""Tiny random models of three tokenizer and template families, made from the shipped corpus; nothing is downloaded."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from serve_app.demo.model import (
    CHAT_TEMPLATE,
    DEFAULT_CORPUS,
    END_TOKEN,
    MAX_LENGTH,
    PAD_TOKEN,
    SPECIAL_TOKENS,
    VOCAB_SIZE,
    texts_of,
    write_json,
    write_tokenizer,
    write_weights,
)

TEMPLATES = Path(__file__).parent / "templates"
NUM_RESERVED = 250
"""Llama 3 has about as many special tokens that mean nothing yet."""
NUM_LAYERS = 1
"""No prompt's tokens depend on the weights."""


class Family(StrEnum):
    """What prompts of many models have in common."""

    CHATML = "chatml"
    """Byte-level BPE, each turn between special tokens; the demo model's own tokenizer."""
    LLAMA3 = "llama3"
    """Byte-level BPE, a token that begins every text, headers of special tokens, today's date in the system prompt."""
    MISTRAL = "mistral"
    """BPE with the space as a letter, and turns that plain text marks."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model's folder, and what else the engine must be told."""

    folder: Path
    engine_kwargs: dict[str, Any] = field(default_factory=dict)


def build(family: Family, folder: Path) -> Model:
    """The model's folder in `folder`; it takes a second or two, so it is made again each time."""
    target = folder / family
    target.mkdir(parents=True, exist_ok=True)
    _WRITERS[family](target)
    return Model(target, {"tool_call_parser": "llama3_json"} if family is Family.LLAMA3 else {})


def build_with(tokenizer: Path, folder: Path) -> Model:
    """A model of the ChatML family with the tokenizer of another one, given as its `tokenizer.json`.

    Whatever special tokens that has, ChatML's are among them.
    """
    target = folder / tokenizer.stem
    target.mkdir(parents=True, exist_ok=True)
    other = Tokenizer.from_file(str(tokenizer))
    other.add_special_tokens(list(SPECIAL_TOKENS))
    _write(target, other, CHAT_TEMPLATE, {"eos_token": END_TOKEN, "pad_token": PAD_TOKEN})
    return Model(target)


def _write_chatml(folder: Path) -> None:
    write_weights(folder, write_tokenizer(folder, DEFAULT_CORPUS), num_layers=NUM_LAYERS)


def _write_llama3(folder: Path) -> None:
    ends = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|end_of_text|>"}
    _write(folder, _llama3(), _template("llama3.jinja"), ends)


def _write_mistral(folder: Path) -> None:
    ends = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    _write(folder, _mistral(), _template("mistral.jinja"), ends)


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _write(folder: Path, tokenizer: Tokenizer, template: str, ends: Mapping[str, str]) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
        **ends,
    }
    write_json(folder / "tokenizer_config.json", settings)
    end_ids = {f"{name}_id": tokenizer.token_to_id(token) for name, token in ends.items()}
    write_weights(folder, tokenizer.get_vocab_size(), ends=end_ids, num_layers=NUM_LAYERS)


def _llama3() -> Tokenizer:
    named = ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id", "eom_id", "python_tag")
    reserved = (f"reserved_special_token_{number}" for number in range(NUM_RESERVED))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, [f"<|{name}|>" for name in (*named, *reserved)], sorted(pre_tokenizers.ByteLevel.alphabet()))
    _begin_with(tokenizer, "<|begin_of_text|>")
    return tokenizer


def _mistral() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    _train(tokenizer, ["<unk>", "<s>", "</s>"], [])
    document = json.loads(tokenizer.to_str())
    vocabulary = document["model"]["vocab"]
    vocabulary |= {f"<0x{byte:02X}>": len(vocabulary) + byte for byte in range(256)}
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.decoder = decoders.Metaspace()
    # They take the space before them, so no text can be cut there.
    tokenizer.add_special_tokens([AddedToken(each, lstrip=True, normalized=False) for each in ("<s>", "</s>")])
    _begin_with(tokenizer, "<s>")
    return tokenizer


def _train(tokenizer: Tokenizer, special_tokens: list[str], alphabet: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=special_tokens, initial_alphabet=alphabet, show_progress=False
    )
    texts = [line for source in DEFAULT_CORPUS for text in texts_of(source) for line in text.splitlines(keepends=True)]
    tokenizer.train_from_iterator(texts, trainer)


def _begin_with(tokenizer: Tokenizer, token: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


_WRITERS: dict[Family, Callable[[Path], None]] = {
    Family.CHATML: _write_chatml,
    Family.LLAMA3: _write_llama3,
    Family.MISTRAL: _write_mistral,
}

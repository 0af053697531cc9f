"""Tokenizers of several families, trained in a second on the shipped corpus."""

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from serve_app.demo.model import DEFAULT_CORPUS

VOCAB_SIZE = 1500


@cache
def chatml() -> Tokenizer:
    """Byte-level BPE, with ChatML's special tokens (Qwen)."""
    return _byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])


@cache
def llama3() -> Tokenizer:
    """Byte-level BPE, many reserved tokens, and one at the start where special tokens are wanted (Llama 3)."""
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer = _byte_level([*specials, *(f"<|reserved_special_token_{number}|>" for number in range(20))])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        special_tokens=[("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))],
    )
    return tokenizer


@cache
def sentencepiece() -> Tokenizer:
    """BPE with the space as a letter, prepended to every text, and special tokens that take the space before them."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train(list(map(str, DEFAULT_CORPUS)), trainer)
    tokenizer.add_special_tokens([AddedToken(each, lstrip=True, normalized=False) for each in ("<s>", "</s>")])
    return tokenizer


def _byte_level(special_tokens: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train(list(map(str, DEFAULT_CORPUS)), trainer)
    return tokenizer

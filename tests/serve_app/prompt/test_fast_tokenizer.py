"""Fastokens' ids are Hugging Face's, for every text that it does not refuse."""

import asyncio
import json
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from serve_app.prompt.fast_tokenizer import INLINE_CHARS, FastTokenizer, UnfitTokenizerError
from serve_app.prompt.tokenizer_samples import FRAGMENTS, samples
from tests.serve_app.prompt.tokenizers_offline import chatml, llama3, sentencepiece

FAMILIES = [chatml, llama3, sentencepiece]
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|begin_of_text|>", "<s>", "</s>")
texts = st.lists(st.sampled_from([*FRAGMENTS, *SPECIAL]) | st.text(max_size=20), max_size=40).map("".join)


@cache
def fast(make_tokenizer: Callable[[], Tokenizer]) -> FastTokenizer:
    """Made once for each family."""
    return FastTokenizer(make_tokenizer().to_str())


def ids_of(tokenizer: Tokenizer, text: str) -> "array[int]":
    """Hugging Face's, without special tokens of its own."""
    return array("I", tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("make_tokenizer", FAMILIES)
@given(text=texts)
@settings(max_examples=150, deadline=None)
def test_the_ids_are_hugging_faces(make_tokenizer: Callable[[], Tokenizer], text: str) -> None:
    """Whatever is in a text, and wherever its special tokens are."""
    assert fast(make_tokenizer).encode(text) == ids_of(make_tokenizer(), text)


@pytest.mark.parametrize("make_tokenizer", FAMILIES)
def test_they_are_for_the_samples(make_tokenizer: Callable[[], Tokenizer]) -> None:
    """By which each process tries its own tokenizer."""
    tokenizer = make_tokenizer()
    special_tokens = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    differing = [
        text[:80] for text in samples(special_tokens) if fast(make_tokenizer).encode(text) != ids_of(tokenizer, text)
    ]
    assert differing == []


@pytest.mark.parametrize("letter", ["x", " ", "7", "\0", "é"])
def test_they_are_for_one_endless_word(letter: str) -> None:
    """Lengths that no 16 bits hold."""
    text = letter * 500_000
    assert fast(chatml).encode(text) == ids_of(chatml(), text)


def test_samples_are_the_same_each_time_and_have_what_breaks_tokenizers() -> None:
    """Special tokens within text, and words longer than 16 bits can say."""
    assert list(samples(["<s>"])) == list(samples(["<s>"]))
    assert any(f"{each}<s>" in text for text in samples(["<s>"]) for each in FRAGMENTS if each)
    assert max(map(len, samples([]))) > 2**16


async def test_long_texts_leave_the_event_loop_free() -> None:
    """It goes on while a thread has the text, whose ids are the same."""
    text = "x" * 4_000_000
    reading = asyncio.ensure_future(fast(chatml).read(text))
    num_turns = 0
    while not reading.done():
        num_turns += 1
        await asyncio.sleep(0)
    assert num_turns > 1
    assert await reading == fast(chatml).encode(text)
    short = text[:INLINE_CHARS]
    assert await fast(chatml).read(short) == fast(chatml).encode(short)


def test_a_tokenizer_that_fastokens_does_not_know_is_unfit() -> None:
    """And it is said what it does not know."""
    document = json.loads(chatml().to_str())
    document["normalizer"] = {"type": "NFKC"}
    with pytest.raises(UnfitTokenizerError, match="NFKC"):
        FastTokenizer(json.dumps(document))


def test_halves_of_characters_are_refused() -> None:
    """Which no tokenizer has ids for."""
    with pytest.raises(UnicodeEncodeError):
        fast(chatml).encode("a\ud800")


def test_a_panic_in_rust_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is none of Python's exceptions, which would pass by whoever handles those; what else is none still does."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    tokenizer = FastTokenizer(chatml().to_str())
    for raised, expected in ((panic, UnfitTokenizerError), (KeyboardInterrupt, KeyboardInterrupt)):

        class Failing:
            def encode_batch_flat(self, _texts: list[str], error: Any = raised) -> Any:
                raise error

        monkeypatch.setattr(tokenizer, "_tokenizer", Failing())
        with pytest.raises(expected):
            tokenizer.encode("text")


def test_a_panic_at_loading_makes_a_tokenizer_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the process starts with Hugging Face's."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    class Failing:
        @staticmethod
        def from_json_str(_document: str) -> Any:
            raise panic

    monkeypatch.setattr("serve_app.prompt.fast_tokenizer.fastokens.Tokenizer", Failing)
    with pytest.raises(UnfitTokenizerError, match="panicked"):
        FastTokenizer("{}")

"""Composed ids are those of the whole text, whatever was seen before."""

import tracemalloc
from array import array
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from serve_app import token_memo
from serve_app.token_boundaries import find_boundaries, samples
from serve_app.token_memo import MIN_PIECE_BYTES, TokenMemo
from tests.serve_app.tokenizers_offline import chatml, llama3, sentencepiece

CHATML = "<|im_start|>system\nYou are helpful.<|im_end|>\n"
LLAMA3 = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are helpful.<|eot_id|>"
FAMILIES = [(chatml, CHATML), (llama3, LLAMA3)]
LONG = "A quick train to the north leaves at nine. " * 8
"""Long enough for a piece."""

Encode = Callable[[str], Sequence[int]]
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|begin_of_text|>")
parts = st.sampled_from(
    [
        *SPECIAL,
        "user\n",
        "\n",
        " ",
        "  two",
        "\u65e5\u672c\u8a9e ",
        "\u00e4",
        "<|im_",
        "|>",
        "<",
        "\r\n\t",
        LONG,
        "x" * 99,
    ]
)
texts = st.lists(parts | st.text(max_size=20), max_size=40).map("".join)


def encode_of(tokenizer: Tokenizer) -> Encode:
    """Without special tokens of its own."""
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def make_memo(tokenizer: Tokenizer, template: str, *, max_bytes: int = 2**20) -> TokenMemo:
    """Of this tokenizer."""
    boundary_to_id = find_boundaries(tokenizer.get_added_tokens_decoder(), template)
    encode = encode_of(tokenizer)
    return TokenMemo(encode, reference=encode, boundary_to_id=boundary_to_id, max_bytes=max_bytes)


@pytest.mark.parametrize(("make_tokenizer", "template"), FAMILIES)
@given(
    prompts=st.lists(st.tuples(st.integers(0, 5), texts), min_size=1, max_size=6),
    max_bytes=st.sampled_from([0, 3000, 2**20]),
)
@settings(max_examples=60)
def test_composed_ids_are_those_of_the_whole(
    make_tokenizer: Callable[[], Tokenizer], template: str, prompts: list[tuple[int, str]], max_bytes: int
) -> None:
    """Each text goes on from an earlier one, or begins anew; with much memory, little and none."""
    tokenizer = make_tokenizer()
    memo, encode = make_memo(tokenizer, template, max_bytes=max_bytes), encode_of(tokenizer)
    seen = [""]
    for base, text in prompts:
        seen.append(seen[min(base, len(seen) - 1)] + text)
        for _ in range(2):
            assert list(memo.encode(seen[-1])) == encode(seen[-1])
            memo.check_integrity()
    assert memo.num_unaligned == 0


def turns(number: int) -> str:
    """A conversation of so many messages."""
    return "".join(f"<|im_start|>user\n{turn} {LONG}<|im_end|>\n" for turn in range(number))


def test_only_what_is_new_is_tokenised() -> None:
    """Of a conversation that returns, its last message; of one with the same start, what comes after that."""
    encoded: list[str] = []

    def encode(text: str) -> Sequence[int]:
        encoded.append(text)
        return encode_of(chatml())(text)

    boundary_to_id = find_boundaries(chatml().get_added_tokens_decoder(), CHATML)
    memo = TokenMemo(encode, reference=encode, boundary_to_id=boundary_to_id, max_bytes=2**20)
    last = "<|im_start|>assistant\n"
    for text in (turns(8) + last, turns(9) + last, turns(4) + "<|im_start|>user\nother<|im_end|>\n"):
        memo.encode(text)
    assert [len(text) < 2 * len(LONG) + MIN_PIECE_BYTES for text in encoded] == [False, True, True]
    assert memo.num_known_tokens > memo.num_encoded_tokens


def test_the_oldest_goes_first_and_its_stem_last() -> None:
    """A start that all share stays while conversations on it go by."""
    memo = make_memo(chatml(), CHATML, max_bytes=6000)
    stem = turns(3)
    for number in range(50):
        memo.encode(f"{stem}<|im_start|>user\n{number} {LONG}<|im_end|>\n<|im_start|>")
        memo.check_integrity()
    before = memo.num_encoded_tokens
    memo.encode(stem + "<|im_start|>")
    assert memo.num_encoded_tokens - before < 60


def test_a_wrong_memo_is_found_out_and_not_used_any_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As if a tokenizer looked beyond its special tokens: an id is the length of the whole text."""
    monkeypatch.setattr(token_memo, "CHECK_EVERY", 3)

    def encode(text: str) -> Sequence[int]:
        return [each for _ in range(text.count("<|im_start|>")) for each in (1, len(text))]

    memo = TokenMemo(encode, reference=encode, boundary_to_id={"<|im_start|>": 1}, max_bytes=2**20)
    text = 3 * f"<|im_start|>{LONG}"
    answers = [list(memo.encode(text)) for _ in range(4)]
    assert [answer == encode(text) for answer in answers] == [True, False, True, True]
    assert not memo.is_exact
    assert "not used any more" in caplog.text
    assert LONG not in caplog.text


def test_ids_that_do_not_show_the_boundaries_are_not_kept() -> None:
    """There is nothing to cut."""

    def encode(text: str) -> Sequence[int]:
        return [7] * len(text)

    memo = TokenMemo(encode, reference=encode, boundary_to_id={"<|im_start|>": 1}, max_bytes=2**20)
    text = f"{LONG}<|im_start|>{LONG}<|im_start|>"
    for _ in range(2):
        assert memo.encode(text) == array("I", [7] * len(text))
    assert memo.num_unaligned == 2
    assert memo.num_bytes == 0


@pytest.mark.parametrize(("make_tokenizer", "template"), FAMILIES)
def test_samples_show_that_ids_compose(make_tokenizer: Callable[[], Tokenizer], template: str) -> None:
    """Both families' tokens of the template are boundaries, and no reserved ones."""
    tokenizer = make_tokenizer()
    boundary_to_id = find_boundaries(tokenizer.get_added_tokens_decoder(), template)
    assert set(boundary_to_id) == {token for token in tokenizer.get_vocab() if token in template and token[:2] == "<|"}
    memo = make_memo(tokenizer, template)
    assert all(memo.is_right(text) for text in 2 * samples(boundary_to_id))
    assert memo.num_known_tokens > 0


def test_a_token_that_takes_the_space_before_it_is_no_boundary() -> None:
    """Nor is one that the template does not write."""
    tokenizer = sentencepiece()
    assert find_boundaries(tokenizer.get_added_tokens_decoder(), "<s>[INST] hello [/INST]</s>") == {}
    assert find_boundaries(chatml().get_added_tokens_decoder(), "{{ messages }}") == {}


@pytest.mark.parametrize("text_bytes", [MIN_PIECE_BYTES, 2_000, 40_000])
def test_memory_is_what_is_accounted(text_bytes: int) -> None:
    """By Python's own count, with so much gone by that it would fill many such memos; whatever the pieces' size."""

    def encode(text: str) -> Sequence[int]:
        return [each for part in text.split("<|im_start|>")[1:] for each in (1, *range(2, 2 + len(part) // 4))]

    memo = TokenMemo(encode, reference=encode, boundary_to_id={"<|im_start|>": 1}, max_bytes=2**20)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(8 * 2**20 // text_bytes):
            memo.encode(f"<|im_start|>{number:09} {'x' * text_bytes}<|im_start|>")
            assert memo.num_bytes <= 2**20
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    memo.check_integrity()
    assert memo.num_bytes > 0.9 * 2**20
    assert 0.7 * memo.num_bytes < grown < 1.05 * memo.num_bytes

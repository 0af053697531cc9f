"""Fastokens in vLLM's renderer: its ids are vLLM's, or it does not tokenise."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer

from serve_app.demo.model import DEFAULT_CORPUS, texts_of
from serve_app.prompt.tokenizer_samples import samples
from serve_app.settings.load import SettingsError
from serve_app.settings.schema import TokenizerName
from tests.serve_app.prompt.tokenizers_offline import llama3

pytestmark = [pytest.mark.usefixtures("vllm"), pytest.mark.filterwarnings("ignore")]  # vLLM's own

TEXT = "<|start_header_id|>user<|end_header_id|>\n\nHello, world!<|eot_id|>"
WORDS = "a client's own words"


class HfTokenizer:
    """What is asked of transformers' tokenizer."""

    is_fast = True

    def __init__(self, backend: Tokenizer, *, offset: int = 0) -> None:
        self.backend_tokenizer = backend
        self.added_tokens_decoder = backend.get_added_tokens_decoder()
        self._offset = offset

    def __call__(self, text: str, *, add_special_tokens: bool, **_: bool) -> dict[str, list[int]]:
        """Its ids, which the offset makes others than its document says."""
        ids = self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return {"input_ids": [each + self._offset for each in ids]}


def make_renderer(tokenizer: Any) -> Any:
    """A renderer of vLLM's, of which only the tokenising is there."""
    from vllm.renderers.hf import HfRenderer

    renderer = HfRenderer.__new__(HfRenderer)
    renderer.asked = []

    async def tokenize(prompt: Any, params: Any) -> Any:
        renderer.asked.append(prompt["prompt"])
        options = params.get_encode_kwargs()
        ids = tokenizer(prompt["prompt"], add_special_tokens=options["add_special_tokens"])["input_ids"]
        return {**prompt, "prompt_token_ids": ids[: options["max_length"]] if options["truncation"] else ids}

    renderer.get_tokenizer = lambda: tokenizer
    renderer._tokenize_prompt_async = tokenize
    return renderer


async def ids_of(renderer: Any, text: str, **params: Any) -> Sequence[int]:
    """Token ids as vLLM asks its renderer for them."""
    from vllm.renderers.params import TokenizeParams

    prompt = await renderer._tokenize_prompt_async(
        {"prompt": text}, TokenizeParams(**{"max_total_tokens": None, **params})
    )
    ids: Sequence[int] = prompt["prompt_token_ids"]
    return ids


def install(renderer: Any, choice: TokenizerName = "auto") -> Any:
    """Ours."""
    from serve_app.prompt.vllm_tokenizing import Tokenizing

    return Tokenizing(renderer, choice)


@pytest.mark.parametrize("add_special_tokens", [False, True])
async def test_ids_are_vllms_without_asking_it(*, add_special_tokens: bool) -> None:
    """With the token that begins every text, and without."""
    tokenizer = HfTokenizer(llama3())
    renderer = make_renderer(tokenizer)
    tokenizing = install(renderer)
    expected = tokenizer(TEXT, add_special_tokens=add_special_tokens)["input_ids"]
    assert await ids_of(renderer, TEXT, add_special_tokens=add_special_tokens) == expected
    assert (renderer.asked, tokenizing.state, tokenizing.num_fast_texts) == ([], "fastokens", 1)


@pytest.mark.parametrize(
    ("text", "params"),
    [
        (TEXT, {"truncate_prompt_tokens": 3, "max_total_tokens": 100}),
        (TEXT, {"return_token_offsets": True}),
        (TEXT, {"pad_prompt_tokens": 9, "max_total_tokens": 100}),
    ],
)
async def test_what_is_more_than_ids_is_left_to_vllm(text: str, params: dict[str, Any]) -> None:
    """Truncation that cuts something, offsets, padding."""
    renderer = make_renderer(HfTokenizer(llama3()))
    install(renderer)
    await ids_of(renderer, text, **params)
    assert renderer.asked == [text]


async def test_halves_of_characters_are_vllms_to_refuse() -> None:
    """Its answer to a client is the one that counts, and the tokenizer is as fit as before."""
    renderer = make_renderer(HfTokenizer(llama3()))
    tokenizing = install(renderer)
    with pytest.raises((TypeError, UnicodeEncodeError)):
        await ids_of(renderer, "a\ud800")
    assert tokenizing.state == "fastokens"


async def test_the_setting_can_leave_all_to_vllm() -> None:
    """And says so."""
    renderer = make_renderer(HfTokenizer(llama3()))
    tokenizing = install(renderer, "huggingface")
    await ids_of(renderer, TEXT)
    assert (renderer.asked, tokenizing.state) == ([TEXT], "huggingface: set so")


@pytest.mark.parametrize(
    ("tokenizer", "why"),
    [
        (HfTokenizer(llama3(), offset=1), "it gave other ids for sample 1"),
        (SimpleNamespace(is_fast=False), "this model's tokenizer is written in Python"),
    ],
)
async def test_a_tokenizer_that_differs_is_not_replaced(
    tokenizer: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so; and where it must be fastokens, nothing starts."""
    renderer = make_renderer(tokenizer)
    original = renderer._tokenize_prompt_async
    assert install(renderer).state == f"huggingface: {why}"
    assert renderer._tokenize_prompt_async is original
    assert why in caplog.text
    with pytest.raises(SettingsError, match=rf"tokenizer = 'fastokens'.*{why}.*auto"):
        install(make_renderer(tokenizer), "fastokens")


async def test_another_way_of_reading_a_tokenizer_is_left_alone() -> None:
    """Such as Mistral's own."""
    assert "in a way of its own" in install(SimpleNamespace(_tokenize_prompt_async=None)).state


async def test_one_text_that_differs_ends_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every so often vLLM tokenises, too. Its ids are the answer, then and from then on; the log has no text."""
    monkeypatch.setattr("serve_app.prompt.vllm_tokenizing.CHECK_EVERY", 3)
    tokenizer = HfTokenizer(llama3())
    renderer = make_renderer(tokenizer)
    tokenizing = install(renderer)
    for _ in range(5):
        await ids_of(renderer, WORDS)
    assert (renderer.asked, tokenizing.state) == ([WORDS], "fastokens")
    monkeypatch.setattr(tokenizer, "_offset", 1)
    right = tokenizer(WORDS, add_special_tokens=True)["input_ids"]
    assert await ids_of(renderer, WORDS) == right
    assert tokenizing.state == "huggingface: it gave other ids for a client's text"
    assert await ids_of(renderer, WORDS) == right
    assert renderer.asked == 3 * [WORDS]
    assert "other ids" in caplog.text
    assert WORDS not in caplog.text


async def test_a_failure_of_fastokens_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is vLLM's, and so are all that follow."""
    from serve_app.prompt.fast_tokenizer import FastTokenizer, UnfitTokenizerError

    tokenizer = HfTokenizer(llama3())
    renderer = make_renderer(tokenizer)
    tokenizing = install(renderer)

    def fail(_self: FastTokenizer, _text: str) -> "array[int]":
        raise UnfitTokenizerError("fastokens panicked")

    monkeypatch.setattr(FastTokenizer, "encode", fail)
    assert await ids_of(renderer, TEXT) == tokenizer(TEXT, add_special_tokens=True)["input_ids"]
    assert tokenizing.state == "huggingface: fastokens panicked"


@pytest.mark.own_process
def test_a_real_vocabulary_has_the_same_ids() -> None:
    """Mistral's of 131,072 tokens, which vLLM's own dependencies bring along."""
    import mistral_common
    from transformers.integrations.mistral import convert_tekken_tokenizer

    from serve_app.prompt.fast_tokenizer import FastTokenizer

    data = Path(mistral_common.__file__).parent / "data"
    tokenizer = convert_tekken_tokenizer(str(data / "tekken_240911.json"))
    fast = FastTokenizer(tokenizer.backend_tokenizer.to_str())
    special_tokens = [token.content for token in tokenizer.added_tokens_decoder.values()]
    texts = [*samples(special_tokens), *(text for path in DEFAULT_CORPUS for text in texts_of(path))]
    differing = [
        text[:80] for text in texts if list(fast.encode(text)) != tokenizer.encode(text, add_special_tokens=False)
    ]
    assert len(tokenizer) > 100_000
    assert differing == []

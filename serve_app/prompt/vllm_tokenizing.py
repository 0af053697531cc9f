"""The tokenizer of this process: fastokens in the place of vLLM's own tokenizer, where both agree.

Adapter: private names of vLLM and transformers are listed in tests/serve_app/test_private_names.py.
"""

import logging
from array import array
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from vllm.renderers.hf import HfRenderer
from vllm.renderers.params import TokenizeParams

from serve_app.prompt import vllm_hooks
from serve_app.prompt.fast_tokenizer import FastTokenizer, UnfitTokenizerError
from serve_app.prompt.tokenizer_samples import samples
from serve_app.settings.load import SettingsError
from serve_app.settings.schema import TokenizerName

logger = logging.getLogger("ray.serve")

CHECK_EVERY = 1000
"""One text in this many is tokenised by Hugging Face as well, and compared."""
SET_SO = "set so"

AsIds = Callable[["array[int]"], Sequence[int]]
Tokenize = Callable[[Any, TokenizeParams], Awaitable[Any]]


class Tokenizing:
    """The tokenising of one renderer of vLLM's, whose place it takes.

    A text for which fastokens would give other ids, or fails, proves it unfit: then vLLM's own way is taken for that
    text and all that follow.

    Args:
        renderer: vLLM's renderer, before it is used.
        choice: the setting `tokenizer`.
        as_ids: makes the form in which a prompt gets its ids; an engine takes lists only.

    Raises:
        SettingsError: fastokens is asked for, and does not give this model's ids.

    """

    def __init__(self, renderer: Any, choice: TokenizerName, *, as_ids: AsIds = list) -> None:  # noqa: ANN401  vLLM's
        self.num_fast_texts = 0
        """Number of texts that fastokens tokenised."""
        self._why = ""
        self._as_ids = as_ids
        self._fast = self._choose(renderer, choice)
        if self._fast is not None:
            self._leading = _leading_ids(renderer.get_tokenizer())
            vllm_hooks.wrap_tokenizing(renderer, self._around)

    @property
    def state(self) -> str:
        """The tokenizer in use: `fastokens`, or `huggingface` and why."""
        return f"huggingface: {self._why}" if self._fast is None else "fastokens"

    def _choose(self, renderer: Any, choice: TokenizerName) -> FastTokenizer | None:  # noqa: ANN401  vLLM's
        if choice == "huggingface":
            self._why = SET_SO
            return None
        try:
            return _proven(renderer)
        except UnfitTokenizerError as error:
            if choice == "fastokens":
                raise SettingsError(
                    f"  tokenizer = 'fastokens', which cannot tokenise for this model: {error}. Set it to auto: then "
                    "such a model has Hugging Face's tokenizer"
                ) from error
            self._give_up(str(error))
            return None

    def _around(self, original: Tokenize) -> Tokenize:
        """vLLM's own way, taken only where fastokens cannot do it."""

        async def tokenize(prompt: Any, params: TokenizeParams) -> Any:  # noqa: ANN401  as vLLM's
            try:
                ids = await self._fast_ids(prompt["prompt"], params)
            except UnfitTokenizerError as error:
                self._give_up(str(error))
                ids = None
            if ids is None:
                return await original(prompt, params)
            self.num_fast_texts += 1
            if self.num_fast_texts % CHECK_EVERY == 0:
                return self._compared(ids, await original(prompt, params))
            return {**prompt, "prompt_token_ids": self._as_ids(ids)}

        return tokenize

    async def _fast_ids(self, text: str, params: TokenizeParams) -> "array[int] | None":
        """Token ids by fastokens; None for a text that is for vLLM to tokenise, or to refuse."""
        options = params.get_encode_kwargs()
        leading = self._leading if options["add_special_tokens"] else array("I")
        if self._fast is None or leading is None or params.return_token_offsets or params.pad_prompt_tokens is not None:
            return None
        try:
            ids = leading + await self._fast.read(text)
        except UnicodeEncodeError:
            return None
        return None if options["truncation"] and len(ids) > options["max_length"] else ids

    def _compared(self, ids: "array[int]", answer: Any) -> Any:  # noqa: ANN401  vLLM's
        """The answer is vLLM's own, whatever fastokens says."""
        if array("I", answer["prompt_token_ids"]) != ids:
            self._give_up("it gave other ids for a client's text")
        return {**answer, "prompt_token_ids": self._as_ids(array("I", answer["prompt_token_ids"]))}

    def _give_up(self, why: str) -> None:
        self._fast, self._why = None, why
        logger.warning("Prompts are tokenised by Hugging Face's tokenizer, which is slower than fastokens: %s", why)


def _proven(renderer: Any) -> FastTokenizer:  # noqa: ANN401  vLLM's
    """A stand-in for the renderer's tokenizer, tried on samples.

    Raises:
        UnfitTokenizerError: there is none.

    """
    if type(renderer) is not HfRenderer:
        raise UnfitTokenizerError("vLLM reads this model's tokenizer in a way of its own")
    tokenizer = renderer.get_tokenizer()
    if not tokenizer.is_fast:
        raise UnfitTokenizerError("this model's tokenizer is written in Python")
    fast = FastTokenizer(tokenizer.backend_tokenizer.to_str())
    special_tokens = [token.content for token in tokenizer.added_tokens_decoder.values()]
    for number, text in enumerate(samples(special_tokens)):
        if fast.encode(text) != array("I", tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]):
            raise UnfitTokenizerError(f"it gave other ids for sample {number}")
    return fast


def _leading_ids(tokenizer: Any) -> "array[int] | None":  # noqa: ANN401  transformers'
    """What the tokenizer puts before a text where special tokens are wanted; None where it puts more than that."""
    ids: list[int] = tokenizer("text", add_special_tokens=False)["input_ids"]
    with_special: list[int] = tokenizer("text", add_special_tokens=True)["input_ids"]
    num_leading = len(with_special) - len(ids)
    return array("I", with_special[:num_leading]) if with_special[num_leading:] == ids else None

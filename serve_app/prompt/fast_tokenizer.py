"""Token ids by fastokens, a tokenizer in Rust that gives Hugging Face's ids in a small part of their time.

Whether it does for a model is not taken on trust: see `serve_app.prompt.vllm_tokenizing`.
"""

import asyncio
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import fastokens
import orjson

INLINE_CHARS = 8192
"""Length up to which a text is tokenised on the event loop: prose takes 0.1 ms, one endless word 7 ms. A longer text
goes to a thread, which works without the GIL; handing it over costs about 0.1 ms."""
NUM_THREADS = 4
"""Number of threads for longer texts, so that a few endless words do not keep others waiting."""
_UNREAD = ("decoder", "padding", "truncation")
"""Parts of a tokenizer of which no prompt's ids are made here; fastokens refuses some decoders."""


class UnfitTokenizerError(Exception):
    """A tokenizer for which fastokens cannot stand in; the message says why, and quotes no text."""


@contextmanager
def _panics() -> Iterator[None]:
    """A panic in Rust, which is no `Exception` to Python, is an error of ours."""
    try:
        yield
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise UnfitTokenizerError("fastokens panicked") from error


class FastTokenizer:
    """A tokenizer that several threads may use.

    Args:
        document: a Hugging Face tokenizer as its `tokenizer.json` has it.

    Raises:
        UnfitTokenizerError: it has parts that fastokens does not know.

    """

    def __init__(self, document: str) -> None:
        parts: dict[str, Any] = orjson.loads(document)
        parts.update(dict.fromkeys(_UNREAD))
        try:
            with _panics():
                self._tokenizer = fastokens.Tokenizer.from_json_str(orjson.dumps(parts).decode())
        except ValueError as error:
            raise UnfitTokenizerError(str(error)) from error
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="tokenize")

    def encode(self, text: str) -> "array[int]":
        """The ids of a text, without those that a tokenizer adds around it.

        Raises:
            UnicodeEncodeError: the text has halves of characters.
            UnfitTokenizerError: fastokens has failed at it, which is a fault of its own.

        """
        ids = array("I")
        with _panics():
            ids.frombytes(self._tokenizer.encode_batch_flat([text])[0])
        return ids

    async def read(self, text: str) -> "array[int]":
        """The same, and the event loop is kept free of all but little work."""
        if len(text) <= INLINE_CHARS:
            return self.encode(text)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.encode, text)

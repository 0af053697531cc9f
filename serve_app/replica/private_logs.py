"""vLLM's warnings without what clients say in them.

vLLM writes no prompts into its log, but it warns of the odd part of one, or of a grammar that leads nowhere, by writing
it out; and an exception's words may be anything. Of what is said about requests, only what vLLM says itself is kept,
and numbers; of an exception, its kind and where it came from. Whatever is logged for information stays as it is: what
vLLM logs of requests there, an operator has asked for (`enable_log_requests`).
"""

import logging
import traceback
from typing import Any

ABOUT_REQUESTS = (
    "vllm.entrypoints.",
    "vllm.inputs.",
    "vllm.multimodal.",
    "vllm.parser.",
    "vllm.reasoning.",
    "vllm.renderers.",
    "vllm.sampling_params",
    "vllm.tokenizers.",
    "vllm.tool_parsers.",
    "vllm.v1.structured_output.",
)
"""Prefixes of the names of loggers."""


def keep_out_clients_words() -> None:
    """Make every log record of this process private from now on."""
    make_record = logging.getLogRecordFactory()
    if isinstance(make_record, _PrivateRecords):
        return
    logging.setLogRecordFactory(_PrivateRecords(make_record))


class _PrivateRecords:
    """A factory of log records around another one."""

    def __init__(self, make_record: Any) -> None:  # noqa: ANN401  the standard library's type is of one function
        self._make_record = make_record

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: ANN401
        """A record as the other factory makes it, without clients' words."""
        record: logging.LogRecord = self._make_record(*args, **kwargs)
        # `makeLogRecord` has one made of nothing, and fills it in.
        if record.name and record.name.startswith(ABOUT_REQUESTS) and record.levelno >= logging.WARNING:
            record.args = tuple(_wordless(argument) for argument in record.args or ())
            if record.exc_info:
                record.exc_text = _wordless_traceback(*record.exc_info)
                record.exc_info = None
        return record


def _wordless(value: object) -> object:
    return value if isinstance(value, int | float) else f"<{type(value).__name__}>"


def _wordless_traceback(kind: Any, _error: object, place: Any) -> str:  # noqa: ANN401  as of sys.exc_info
    return "".join(["Traceback (most recent call last):\n", *traceback.format_tb(place), getattr(kind, "__name__", "")])

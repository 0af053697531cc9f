"""Errors that are a client's fault, where vLLM takes them for one of its own and answers 500.

Between a body and the engine, vLLM renders the prompt, makes it a request to the engine, with sampling parameters, and
sends that. These steps are computed of the body alone, by code that has served the replica's own prompts before any
client's, so what they stumble over is in the body: there, an error of a kind that comes of data is the client's. The
rest stays an error of the server: a kind that comes of the machine, such as `OSError`, anywhere; and every kind once
the engine has the request, but for one. That it cannot keep to a structure shows only while it answers.

Adapter: private names of vLLM are listed in tests/serve_app/test_private_names.py.
"""

import functools
import inspect
import logging
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from vllm.exceptions import VLLMClientError, VLLMValidationError

from serve_app.prompt import vllm_hooks
from serve_app.prompt.validation import KINDS_OF_DATA

logger = logging.getLogger("ray.serve")

FILE_LOADER = "_load_file_url"
"""Method of vLLM's MediaConnector, which raises a RuntimeError where no files may be read."""
MAX_REASON_CHARS = 300
"""Length to which an error's own words are cut, as they may repeat what the client sent."""


def blame_clients(app: FastAPI, engine_client: Any) -> None:  # noqa: ANN401  vLLM's AsyncLLM
    """Let vLLM's app around this engine answer 400 to what is the client's fault, from now on."""
    vllm_hooks.wrap_body_readers(app, _reading)
    vllm_hooks.wrap_logging_answerers(app, _answering)
    vllm_hooks.wrap_request_making(engine_client, _reading)
    vllm_hooks.wrap_request_sending(engine_client, partial(_sending, engine_client))
    if engine_client.vllm_config.kv_transfer_config is None:  # or else it may have been that
        vllm_hooks.wrap_generating(engine_client, _generating)


@contextmanager
def of_the_client() -> Iterator[None]:
    """Blame the client for errors: what is done within is done with its data alone.

    Raises:
        VLLMValidationError: in place of an error of such a kind.

    """
    try:
        yield
    except Exception as error:
        kind, place = type(error).__name__, _raised_in(error)
        if not isinstance(error, KINDS_OF_DATA) and place != FILE_LOADER:
            raise
        if not isinstance(error, ValueError):  # by which programs refuse on purpose
            # Not in its own words, in which the client's may be.
            logger.info("Refused what cannot be read: %s in %s", kind, place)
        raise VLLMValidationError(f"The request cannot be read: {kind}: {_briefly(error)}") from error


def _reading(read: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(read):

        @functools.wraps(read)
        async def read_later(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            with of_the_client():
                return await read(*args, **kwargs)

        return read_later

    @functools.wraps(read)
    def read_now(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        with of_the_client():
            return read(*args, **kwargs)

    return read_now


def _answering(serving: Any, answer: Callable[..., Any]) -> Callable[..., Any]:  # noqa: ANN401  vLLM's
    """Make an answer of an error before it is logged."""

    @functools.wraps(answer)
    async def answer_quietly(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return await answer(*args, **kwargs)
        except VLLMClientError as error:
            return serving.create_error_response(error)

    return answer_quietly


def _sending(engine_client: Any, send: Callable[..., Any]) -> Callable[..., Any]:  # noqa: ANN401  vLLM's AsyncLLM
    """What cannot be sent to the engine must not be kept as if the engine had it."""

    @functools.wraps(send)
    async def send_or_forget(request: Any, prompt: Any, parent: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        try:
            with of_the_client():
                await send(request, prompt, parent, *args, **kwargs)
        except Exception:
            await engine_client.abort((request if parent is None else parent).request_id, internal=True)
            raise

    return send_or_forget


def _generating(generate: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncGenerator[Any, None]]:
    @functools.wraps(generate)
    def generate_in_structure(
        prompt: Any,  # noqa: ANN401
        sampling_params: Any,  # noqa: ANN401
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> AsyncGenerator[Any, None]:
        outputs = generate(prompt, sampling_params, *args, **kwargs)
        return outputs if sampling_params.structured_outputs is None else _structured(outputs)

    return generate_in_structure


async def _structured(outputs: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """The engine ends an answer with an error where its structure cannot be compiled, or leads nowhere."""
    async with aclosing(outputs):
        async for output in outputs:
            if any(choice.finish_reason == "error" for choice in output.outputs):
                raise VLLMValidationError("The engine cannot keep to the structure that is asked for: simplify it")
            yield output


def _raised_in(error: Exception) -> str:
    """Name of the function that raised the error."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_name


def _briefly(error: Exception) -> str:
    words = str(error)
    return words if len(words) <= MAX_REASON_CHARS else f"{words[:MAX_REASON_CHARS]} ..."

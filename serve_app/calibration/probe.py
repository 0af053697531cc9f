"""Sends requests to one replica and takes the times. Prompts are random token ids, so none finds anything cached."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
import orjson

from serve_app.calibration.errors import CalibrationError
from serve_app.calibration.streams import StreamProgress, seconds_a_token

TOKEN_IDS = range(300, 1_300)
"""Words of every vocabulary; special tokens are elsewhere."""
SHORT_PROMPT_TOKENS = 8
ANSWER_TOKENS = 192
"""Streams begin some steps apart, and all must be decoded at a time for long enough to be measured."""
SHORT_CONTEXT_TOKENS = SHORT_PROMPT_TOKENS + ANSWER_TOKENS // 2
"""Of each of several streams, on average while they are decoded."""
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class ProbedModel:
    """What a replica serves."""

    name: str
    max_prompt_tokens: int


class ReplicaProbe:
    """Sends the requests of one calibration.

    Args:
        client: connected to the replica's own port.
        rng: for the prompts.
        clock: seconds.

    """

    def __init__(self, client: httpx.AsyncClient, *, rng: Random, clock: Callable[[], float]) -> None:
        self._client = client
        self._model_name = ""
        self._rng = rng
        self._long_context: list[int] = []
        self._clock = clock
        self.prompt_tokens = 0
        """Number of tokens of all prompts so far."""

    async def find_model(self) -> ProbedModel:
        """What the replica serves; to be asked first.

        Raises:
            CalibrationError: it does not say.

        """
        try:
            response = await self._client.get("/v1/models", timeout=TIMEOUT_S)
            model = response.json()["data"][0]
            self._model_name = str(model["id"])
            return ProbedModel(self._model_name, int(model["max_model_len"]) - 1)
        except (httpx.TransportError, ValueError, LookupError, TypeError) as error:
            raise CalibrationError(
                f"what is at {self._client.base_url} does not say which model it serves ({type(error).__name__}): "
                "give a vLLM replica's own address"
            ) from error

    async def first_token_s(self, prompt_tokens: int) -> float:
        """The time from sending a cold prompt to its first token.

        Raises:
            CalibrationError: there was none.

        """
        started_s = self._clock()
        progress = await self._stream(self._random_tokens(prompt_tokens), answer_tokens=1)
        return progress[0].at_s - started_s

    async def first_token_after_s(self, context_tokens: int, *, new_tokens: int) -> float:
        """The time from sending a prompt to its first token, when all but its last tokens are cached.

        Raises:
            CalibrationError: there was none, or the replica says that they were not.

        """
        context = self._random_tokens(context_tokens)
        await self._stream(context, answer_tokens=1)
        started_s = self._clock()
        progress = await self._stream(context + self._random_tokens(new_tokens), answer_tokens=1)
        cached_tokens = progress[0].cached_tokens
        if cached_tokens is not None and cached_tokens < context_tokens:
            raise CalibrationError(
                f"the replica had {cached_tokens} of {context_tokens} prompt tokens cached that it had just seen: "
                "is enable_prefix_caching on? Else lower --longest"
            )
        return progress[0].at_s - started_s

    async def between_tokens_after_s(self, context_tokens: int) -> float:
        """The time from token to token of a single sequence with this context, on average, while it is decoded.

        All contexts begin alike, so that most of them is cached: it is not computing them that is measured.

        Raises:
            CalibrationError: it was not decoded.

        """
        num_tokens = context_tokens - ANSWER_TOKENS // 2
        self._long_context += self._random_tokens(num_tokens - len(self._long_context))
        return await self._between_tokens_s([self._long_context[:num_tokens]])

    async def between_tokens_s(self, num_streams: int) -> float:
        """The time from token to token of each sequence, while this number of them is being decoded.

        Raises:
            CalibrationError: they were not, all at the same time.

        """
        return await self._between_tokens_s([self._random_tokens(SHORT_PROMPT_TOKENS) for _ in range(num_streams)])

    async def _between_tokens_s(self, prompts: list[list[int]]) -> float:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._stream(each, answer_tokens=ANSWER_TOKENS)) for each in prompts]
        except ExceptionGroup as errors:
            refusals, others = errors.split(CalibrationError)
            if refusals is None or others is not None:
                raise
            raise refusals.exceptions[0] from None  # streams fail together: one reason will do
        seconds = seconds_a_token([task.result() for task in tasks])
        if seconds is None:
            raise CalibrationError(
                f"{len(prompts)} streams were never decoded at the same time: use fewer with --streams"
            )
        return seconds

    def _random_tokens(self, num_tokens: int) -> list[int]:
        return self._rng.choices(TOKEN_IDS, k=num_tokens)

    async def _stream(self, prompt: list[int], *, answer_tokens: int) -> list[StreamProgress]:
        self.prompt_tokens += len(prompt)
        content = orjson.dumps(self._body(prompt, answer_tokens))
        headers = {"content-type": "application/json"}
        progress = []
        try:
            async with self._client.stream(
                "POST", "/v1/completions", content=content, headers=headers, timeout=TIMEOUT_S
            ) as response:
                if response.is_error:
                    text = (await response.aread()).decode(errors="replace")
                    raise CalibrationError(f"the replica answered {response.status_code}: {text[:500]}")
                async for line in response.aiter_lines():
                    num_tokens, cached_tokens = _usage(line)
                    if num_tokens:
                        progress.append(StreamProgress(self._clock(), num_tokens, cached_tokens))
        except httpx.TransportError as error:
            raise CalibrationError(f"the replica broke the connection off: {type(error).__name__}") from error
        if not progress:
            raise CalibrationError("the replica's stream ended without a token")
        return progress

    def _body(self, prompt: list[int], answer_tokens: int) -> dict[str, Any]:
        return {
            "model": self._model_name,
            "prompt": prompt,
            "max_tokens": answer_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }


def _usage(line: str) -> tuple[int, int | None]:
    """By a line of a stream, tokens of the answer so far, and those of the prompt that were cached; 0 and None where it
    does not say.
    """
    if not line.startswith("data: {"):
        return 0, None
    usage = orjson.loads(line.removeprefix("data: ")).get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return int(usage.get("completion_tokens", 0)), details.get("cached_tokens")

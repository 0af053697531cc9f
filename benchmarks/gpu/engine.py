"""One engine, as its client sees it: prompts of token ids go in, times and counts come out; the text is noise."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.harness.errors import MeasurementError

MODEL_NAME = "measured"
TIMEOUT_S = 600.0
RESET_TIMEOUT_S = 30.0
POLL_S = 0.1
MAX_ERROR_LETTERS = 500


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """What became of a prompt; times in seconds since it was sent."""

    prompt_tokens: int
    cached_tokens: int
    """Reused tokens as the engine reports them at the end of the answer."""
    first_token_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class KvCache:
    """The KV cache of one engine, as it was started."""

    num_tokens: int
    block_size: int


def _ignore() -> None:
    """No one listens."""


class Engine:
    """A running server.

    Args:
        client: with its URL.
        clock: seconds.

    """

    def __init__(self, client: httpx.AsyncClient, *, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock

    async def ask(
        self, token_ids: Sequence[int], *, answer_tokens: int, on_first_token: Callable[[], None] = _ignore
    ) -> EngineAnswer:
        """Send a prompt, and follow its answer of exactly that many tokens.

        Raises:
            MeasurementError: there was none, or not all of it.

        """
        content = orjson.dumps(_body(token_ids, answer_tokens))
        started_s = self._clock()
        first_token_s, usage = None, None
        try:
            async with self._client.stream(
                "POST", "/v1/completions", content=content, headers={"content-type": "application/json"}
            ) as response:
                if response.is_error:
                    text = (await response.aread()).decode(errors="replace")
                    raise MeasurementError(f"the engine answered {response.status_code}: {text[:MAX_ERROR_LETTERS]}")
                async for line in response.aiter_lines():
                    event = _event(line)
                    if event.get("choices") and first_token_s is None:
                        first_token_s = self._clock() - started_s
                        on_first_token()
                    usage = event.get("usage") or usage
        except httpx.HTTPError as error:
            raise MeasurementError(f"the engine broke the connection off: {type(error).__name__}") from error
        if first_token_s is None or usage is None:
            raise MeasurementError("the engine's answer ended before its time")
        details = usage.get("prompt_tokens_details") or {}
        return EngineAnswer(
            usage["prompt_tokens"], details.get("cached_tokens") or 0, first_token_s, self._clock() - started_s
        )

    async def reset_cache(self) -> None:
        """Forget every prefix, once no request uses one.

        Raises:
            MeasurementError: it does not.

        """
        deadline = self._clock() + RESET_TIMEOUT_S
        while self._clock() < deadline:
            response = await self._client.post("/reset_prefix_cache")
            if response.is_error:
                raise MeasurementError(
                    f"the engine does not reset its cache ({response.status_code}): start it with "
                    "VLLM_SERVER_DEV_MODE=1"
                )
            if response.json()["success"]:
                return
            await asyncio.sleep(POLL_S)
        raise MeasurementError(f"the engine's cache was still in use after {RESET_TIMEOUT_S:.0f} s")

    async def kv_cache(self) -> KvCache:
        """Its size, by its metrics.

        Raises:
            MeasurementError: they do not say.

        """
        response = await self._client.get("/metrics")
        samples = (sample for family in text_string_to_metric_families(response.text) for sample in family.samples)
        for sample in samples:
            if sample.name == "vllm:cache_config_info":
                block_size = int(sample.labels["block_size"])
                return KvCache(int(sample.labels["num_gpu_blocks"]) * block_size, block_size)
        raise MeasurementError("the engine's metrics do not tell the size of its KV cache")


def _body(token_ids: Sequence[int], answer_tokens: int) -> dict[str, Any]:
    return {
        "model": MODEL_NAME,
        "prompt": list(token_ids),
        "max_tokens": answer_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _event(line: str) -> dict[str, Any]:
    """The event of a stream's line; empty where there is none."""
    if not line.startswith("data: {"):
        return {}
    event: dict[str, Any] = orjson.loads(line.removeprefix("data: "))
    if "error" in event:
        raise MeasurementError(f"the engine's answer broke off: {str(event['error'])[:MAX_ERROR_LETTERS]}")
    return event

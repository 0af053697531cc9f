"""An engine in this process that caches prefixes block by block, as `ask` and over HTTP."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

import httpx
import orjson

from benchmarks.gpu.engine import EngineAnswer
from benchmarks.harness.errors import MeasurementError
from router import cacheable_tokens, hash_blocks
from router.types import BlockHash

BLOCK_SIZE = 4
TOKEN_S = 0.001
OVERHEAD_S = 0.010
RELOAD_S = 0.0001


class FakeEngine:
    """Takes `OVERHEAD_S` and `TOKEN_S` for each token that is not cached; of nobody's time, by its own word.

    With a host, everything comes back from there that a reset has dropped, at `RELOAD_S` a token.
    """

    def __init__(self, *, failures: int = 0, refused_resets: int = 0, has_host: bool = False) -> None:
        self.prompts: list[list[int]] = []
        self.num_resets = 0
        self._held: set[BlockHash] = set()
        self._host: set[BlockHash] | None = set() if has_host else None
        self._failures = failures
        self._refused_resets = refused_resets

    async def ask(
        self, token_ids: Sequence[int], *, answer_tokens: int, on_first_token: Callable[[], None] = lambda: None
    ) -> EngineAnswer:
        """As the real one."""
        self.prompts.append(list(token_ids))
        await asyncio.sleep(0)
        if self._failures:
            self._failures -= 1
            raise MeasurementError("the engine answered 500: too bad")
        on_first_token()
        await asyncio.sleep(0)
        held_before = set(self._held)
        cached_tokens = self.take(token_ids)
        first_token_s = OVERHEAD_S + TOKEN_S * (len(token_ids) - cached_tokens)
        if self._host is not None:
            hashes = hash_blocks(token_ids, block_size=BLOCK_SIZE, root=BlockHash(0))
            num_reloaded = sum(each in self._host and each not in held_before for each in hashes)
            first_token_s += RELOAD_S * BLOCK_SIZE * num_reloaded
            self._host.update(hashes)
        return EngineAnswer(len(token_ids), cached_tokens, first_token_s, first_token_s + TOKEN_S * answer_tokens)

    async def reset_cache(self) -> None:
        """As the real one."""
        self.num_resets += 1
        self._held.clear()

    def take(self, token_ids: Sequence[int]) -> int:
        """Hold a prompt; returns how much of it was held before."""
        hashes = hash_blocks(token_ids, block_size=BLOCK_SIZE, root=BlockHash(0))
        held = self._held if self._host is None else self._held | self._host
        num_blocks = sum(1 for _ in itertools.takewhile(held.__contains__, hashes))
        self._held.update(hashes)
        return cacheable_tokens(len(token_ids), num_blocks=num_blocks, block_size=BLOCK_SIZE)

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Over HTTP, as vLLM does."""
        match request.url.path:
            case "/reset_prefix_cache":
                self.num_resets += 1
                return httpx.Response(200, json={"success": self.num_resets > self._refused_resets})
            case "/metrics":
                labels = f'block_size="{BLOCK_SIZE}",engine="0",num_gpu_blocks="100"'
                return httpx.Response(200, text=f"vllm:cache_config_info{{{labels}}} 1.0\n")
            case "/v1/completions":
                return self._complete(orjson.loads(request.content))
        return httpx.Response(404)

    def _complete(self, body: dict[str, list[int]]) -> httpx.Response:
        if self._failures:
            self._failures -= 1
            return httpx.Response(500, text="too bad")
        usage = {
            "prompt_tokens": len(body["prompt"]),
            "prompt_tokens_details": {"cached_tokens": self.take(body["prompt"])},
        }
        events = [*({"choices": [{"text": "x"}]} for _ in range(2)), {"choices": [], "usage": usage}]
        lines = "".join(f"data: {orjson.dumps(event).decode()}\n\n" for event in events)
        return httpx.Response(200, text=f"{lines}data: [DONE]\n\n", headers={"content-type": "text/event-stream"})

"""What the router's keys say that a real engine has cached, from an empty cache on."""

from typing import Any

import orjson

from router import BlockHasher, RequestId
from router.keys.blocks import cacheable_tokens
from serve_app.prompt.body import Unreadable
from serve_app.prompt.incoming import RequestReader
from serve_app.prompt.served_model import ServedModel


class ExpectedCache:
    """Told of each request before the engine is; the engine evicts nothing.

    Args:
        llm: the settings' part of that name.

    """

    def __init__(self, llm: dict[str, Any]) -> None:
        from serve_app.prompt.vllm_reader import PromptReader

        self._reader = RequestReader(session_header="", model=ServedModel.from_llm(llm), max_sequences=1)
        self._reader.prompts = PromptReader(llm)
        self._block_size: int = llm["engine_kwargs"]["block_size"]
        self._hasher = BlockHasher(block_size=self._block_size)
        self._held: set[int] = set()

    async def ask(self, body: dict[str, Any]) -> tuple[int, int]:
        """The prompt's tokens, and how many of them the engine will reuse."""
        incoming = await self._reader.read(orjson.dumps(body), {})
        assert not isinstance(incoming.prompt, Unreadable), incoming.prompt
        request = incoming.describe(RequestId("id"), self._hasher, ())
        hashes = request.block_hashes
        num_held = next((place for place, each in enumerate(hashes) if each not in self._held), len(hashes))
        self._held.update(hashes)
        num_tokens = request.num_prompt_tokens
        return num_tokens, cacheable_tokens(num_tokens, num_blocks=num_held, block_size=self._block_size)

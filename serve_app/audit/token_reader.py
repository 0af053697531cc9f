"""Requests as the engine would see them: the routers' own reader, for prompts of any length."""

from collections.abc import Sequence
from typing import Any

from router import BlockHasher, root_hash
from serve_app.audit.cache_replay import Keys
from serve_app.prompt.body import UnreadableError
from serve_app.prompt.vllm_reader import PromptReader

MAX_PROMPT_TOKENS = 10_000_000


class TokenReader:
    """Reads requests with the model and the chat template of some settings.

    Args:
        llm: the settings' part of that name.
        block_size: in tokens.

    """

    def __init__(self, llm: dict[str, Any], *, block_size: int) -> None:
        self._prompts = PromptReader(llm, max_prompt_tokens=MAX_PROMPT_TOKENS)
        self.block_size = block_size
        self._hasher = BlockHasher(block_size=block_size)

    async def token_ids(self, body: dict[str, Any]) -> Sequence[int] | None:
        """The token ids of a request; None for one that the model's server would refuse."""
        try:
            return list((await self._prompts.read(_complete(body))).token_ids)
        except UnreadableError:
            return None

    async def keys(self, body: dict[str, Any]) -> Keys | None:
        """The keys of a request, likewise. Prompts with another `cache_salt` share nothing."""
        try:
            prompt = await self._prompts.read(_complete(body))
        except UnreadableError:
            return None
        root = root_hash(model="", adapter="", tenant="", cache_salt=prompt.cache_salt)
        return Keys(len(prompt.token_ids), self._hasher.hash(prompt.key_ids, root=root))


def _complete(body: dict[str, Any]) -> dict[str, Any]:
    """The body with what the APIs ask for and no prompt depends on. Gateways add it, and their logs may lack it."""
    return {"model": "any", **({"max_tokens": 1} if "messages" in body else {}), **body}

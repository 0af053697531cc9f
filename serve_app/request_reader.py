"""What HAProxy hands over of a client's request, read as far as it can be and described to the core."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from router import RequestId, RouteRequest, SessionKey, hash_blocks, root_hash, session_key
from serve_app.request_body import Prompt, Unreadable, UnreadableError, parse_body, session_id_of
from serve_app.token_memo import TokenMemo

TRUNCATED_HEADER = "x-body-truncated"
BYTES_PER_TOKEN = 4
"""Guess for the load of a prompt that could not be tokenised; English text with a common vocabulary."""


class Prompts(Protocol):
    """Renders and tokenises; see `serve_app.prompt`."""

    max_model_len: int
    memo: TokenMemo | None

    async def read(self, fields: dict[str, Any]) -> Prompt:
        """The prompt, or `UnreadableError`."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A client's request."""

    prompt: Prompt | Unreadable
    session_key: SessionKey | None
    num_unread_tokens: int
    """Guess at the length of a prompt that could not be read."""

    def describe(self, request_id: RequestId, *, block_size: int) -> RouteRequest:
        """As the core takes it."""
        prompt = self.prompt
        if isinstance(prompt, Unreadable):
            return RouteRequest(request_id, "", "", self.num_unread_tokens, (), self.session_key)
        root = root_hash(model=prompt.model, adapter="", tenant="", cache_salt=prompt.cache_salt)
        return RouteRequest(
            request_id,
            model=prompt.model,
            tenant="",
            num_prompt_tokens=len(prompt.token_ids),
            block_hashes=hash_blocks(prompt.token_ids, block_size=block_size, root=root),
            session_key=self.session_key,
        )


class RequestReader:
    """Reads bodies once there is something that can tokenise them, and sessions always.

    Args:
        session_header: in which a client may name its conversation; before the body's fields, which may do so too.

    """

    def __init__(self, *, session_header: str) -> None:
        self._session_header = session_header
        self.prompts: Prompts | None = None

    async def read(self, body: bytes, headers: Mapping[str, str]) -> Incoming:
        """Never fails: what cannot be read says why."""
        session_id = headers.get(self._session_header, "")
        prompt: Prompt | Unreadable = Unreadable.TRUNCATED_BODY
        if TRUNCATED_HEADER not in headers:
            try:
                fields = parse_body(body)
                session_id = session_id or session_id_of(fields)
                prompt = await self._read_prompt(fields)
            except UnreadableError as error:
                prompt = error.reason
        return Incoming(prompt, session_key(session_id), self._guess_tokens(body))

    async def _read_prompt(self, fields: dict[str, Any]) -> Prompt:
        if self.prompts is None:
            raise UnreadableError(Unreadable.STARTING)
        return await self.prompts.read(fields)

    def memo_snapshot(self) -> dict[str, int | bool] | None:
        """How much is tokenised anew; None where there is no memo, or none yet."""
        memo = None if self.prompts is None else self.prompts.memo
        return None if memo is None else memo.snapshot()

    def _guess_tokens(self, body: bytes) -> int:
        num_tokens = len(body) // BYTES_PER_TOKEN
        return num_tokens if self.prompts is None else min(num_tokens, self.prompts.max_model_len)

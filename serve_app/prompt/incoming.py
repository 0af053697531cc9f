"""A client's request as HAProxy hands it over, read as far as it can be and described to the core."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from router import BlockHash, BlockHasher, ReplicaId, RequestId, RouteRequest, SessionKey, root_hash, session_key
from serve_app.messages.response_ids import stored_at
from serve_app.messages.snapshot import ReaderSnapshot
from serve_app.prompt.body import (
    Prompt,
    Unreadable,
    UnreadableError,
    max_answer_tokens_of,
    num_choices_of,
    num_prompts_of,
    num_sequences_of,
    parse_body,
    previous_response_id_of,
    session_id_of,
)
from serve_app.prompt.served_model import ServedModel
from serve_app.tenants.credentials import TENANT_HEADER
from serve_app.tenants.isolation import nested_salt

TRUNCATED_HEADER = "x-body-truncated"
BYTES_PER_TOKEN = 4
"""Guess for the load of a prompt that could not be tokenised; English text with a common vocabulary."""


SaltOf = Callable[[str], str | None]


class Prompts(Protocol):
    """Renders and tokenises; see `serve_app.prompt.vllm_reader`."""

    max_model_len: int

    @property
    def tokenizer(self) -> str:
        """The tokenizer in use, and why it is not fastokens."""
        ...

    def snapshot(self) -> ReaderSnapshot:
        """Counts only."""
        ...

    async def read(self, fields: dict[str, Any]) -> Prompt:
        """The prompt, or `UnreadableError`."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A client's request."""

    tenant: str
    """Whose it is; empty where there are no API keys."""
    prompt: Prompt | Unreadable
    model: ServedModel
    adapter: str
    """Adapter of that model; empty for none."""
    session_key: SessionKey | None
    previous_response_id: str | None
    """Id of the stored response that it continues."""
    num_prompt_tokens: int | None
    """Tokens of all prompts together; None where they could not be tokenised."""
    guessed_tokens: int
    """Guess at the tokens of all prompts together."""
    max_answer_tokens: int | None = None
    """The longest answer that the client allows, where the body could be read so far."""
    num_prompts: int = 1
    num_choices: int = 1
    """Answers to each prompt."""

    @property
    def num_sequences(self) -> int:
        """Number of the engine's sequences."""
        return self.num_prompts * self.num_choices

    @property
    def adapter_to_load(self) -> str | None:
        """The adapter, if the replica may not have it yet."""
        return self.model.adapter_to_load(self.adapter)

    def describe(self, request_id: RequestId, hasher: BlockHasher, replica_ids: Iterable[ReplicaId]) -> RouteRequest:
        """The request as the core takes it, which has these replicas."""
        prompt, response_id = self.prompt, self.previous_response_id
        if isinstance(prompt, Unreadable):
            holder = None if response_id is None else stored_at(response_id, replica_ids)
            return self._request(request_id, (), holder)
        root = root_hash(model=self.model.name, adapter=self.adapter, tenant="", cache_salt=prompt.cache_salt)
        return self._request(request_id, hasher.hash(prompt.key_ids, root=root), None)

    def _request(
        self, request_id: RequestId, block_hashes: tuple[BlockHash, ...], holder: ReplicaId | None
    ) -> RouteRequest:
        return RouteRequest(
            request_id,
            model=self.model.name,
            tenant=self.tenant,
            num_prompt_tokens=self.guessed_tokens if self.num_prompt_tokens is None else self.num_prompt_tokens,
            block_hashes=block_hashes,
            session_key=self.session_key,
            stored_at=holder,
            max_answer_tokens=self.max_answer_tokens,
            num_prompts=self.num_prompts,
            num_choices=self.num_choices,
        )


class RequestReader:
    """Reads bodies once there is something that can tokenise them, and sessions always.

    Args:
        session_header: the header in which a client may name its conversation; it goes before the body's fields.
        model: the model that bodies ask for, or an adapter of it.
        max_sequences: the most sequences; a body that asks for more will be refused.
        salt: the salt of a tenant's prompts, None of an unknown tenant; None where there are no API keys.

    """

    def __init__(
        self, *, session_header: str, model: ServedModel, max_sequences: int, salt: SaltOf | None = None
    ) -> None:
        self._salt = salt
        self._model = model
        self._max_sequences = max_sequences
        self._session_header = session_header
        self.prompts: Prompts | None = None

    async def read(self, body: bytes, headers: Mapping[str, str], *, timeout_s: float | None = None) -> Incoming:
        """Read a request, which never fails: what cannot be read says why, after this time at the latest."""
        fields: dict[str, Any] = {}
        prompt: Prompt | Unreadable = Unreadable.TRUNCATED_BODY
        num_prompt_tokens = None
        tenant = headers.get(TENANT_HEADER, "")
        if TRUNCATED_HEADER not in headers:
            try:
                fields = parse_body(body)
                async with asyncio.timeout(timeout_s):
                    prompt = self._salted(await self._read_prompt(fields), tenant)
                num_prompt_tokens = len(prompt.token_ids)
            except UnreadableError as error:
                prompt, num_prompt_tokens = error.reason, error.num_prompt_tokens
            except TimeoutError:
                prompt = Unreadable.BUSY
        asked = {} if prompt is Unreadable.REJECTED else fields  # a request that will be refused is no load
        num_prompts = num_prompts_of(asked)
        return Incoming(
            tenant,
            prompt,
            self._model,
            adapter=self._model.adapter(fields.get("model")),
            session_key=session_key(headers.get(self._session_header, "") or session_id_of(fields)),
            previous_response_id=previous_response_id_of(fields),
            num_prompt_tokens=num_prompt_tokens,
            guessed_tokens=self._guess_tokens(body, num_prompts),
            max_answer_tokens=max_answer_tokens_of(fields),
            num_prompts=num_prompts,
            num_choices=num_choices_of(asked),
        )

    async def _read_prompt(self, fields: dict[str, Any]) -> Prompt:
        if num_sequences_of(fields) > self._max_sequences:
            raise UnreadableError(Unreadable.REJECTED)
        if self.prompts is None:
            raise UnreadableError(Unreadable.STARTING)
        return await self.prompts.read(fields)

    def _salted(self, prompt: Prompt, tenant: str) -> Prompt:
        """The prompt with the salt that the replica puts around the client's own.

        Those of the replicas' self-tests, which no client sent, have their whole salt already.
        """
        if self._salt is None or not tenant:
            return prompt
        salt = self._salt(tenant)
        if salt is None:
            raise UnreadableError(Unreadable.UNKNOWN_TENANT, num_prompt_tokens=len(prompt.token_ids))
        return replace(prompt, cache_salt=nested_salt(salt, prompt.cache_salt))

    def snapshot(self) -> ReaderSnapshot | None:
        """How prompts are read; None while they cannot be."""
        return None if self.prompts is None else self.prompts.snapshot()

    def _guess_tokens(self, body: bytes, num_prompts: int) -> int:
        num_tokens = len(body) // BYTES_PER_TOKEN
        return num_tokens if self.prompts is None else min(num_tokens, num_prompts * self.prompts.max_model_len)

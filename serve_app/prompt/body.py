"""Request bodies as the router sees them: without the path, so the API must be told by the fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from serve_app.prompt.media import Placeholder, with_contents


class Unreadable(StrEnum):
    """Why a body has no prompt that a router can key. The request is served all the same."""

    EMPTY_BODY = "empty_body"
    TRUNCATED_BODY = "truncated_body"
    """Larger than HAProxy's routing buffer."""
    NOT_JSON = "not_json"
    NO_PROMPT = "no_prompt"
    """It has none of the fields in which the APIs carry a prompt."""
    SEVERAL_PROMPTS = "several_prompts"
    STORED_STATE = "stored_state"
    """The prompt continues a response that only one replica has stored."""
    UNSUPPORTED_INPUT = "unsupported_input"
    """Media that a router does not read: behind a URL, or sound and film."""
    REJECTED = "rejected"
    """The replica will refuse it: a wrong type, an over-long prompt, an untrusted template, too many sequences."""
    RENDER_ERROR = "render_error"
    """Our own failure; logged."""
    BUSY = "busy"
    """It was not read in the time that there is for it: this router has too much to read."""
    UNKNOWN_TENANT = "unknown_tenant"
    """HAProxy knows the client's key, and this router does not yet know its tenant: the key file has just changed."""
    STARTING = "starting"
    """This router has just been started, alone, and cannot tokenise yet."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that the routing key is made of, except the model."""

    token_ids: Sequence[int]
    """Token ids as the engine has them."""
    cache_salt: str
    images: Sequence[Placeholder] = ()
    """Places of images among them."""

    @property
    def key_ids(self) -> Sequence[int]:
        """The ids to be hashed."""
        return with_contents(self.token_ids, self.images) if self.images else self.token_ids


class UnreadableError(Exception):
    """The body has no prompt that a router can key."""

    def __init__(self, reason: Unreadable, *, num_prompt_tokens: int | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.num_prompt_tokens = num_prompt_tokens
        """Tokens of several prompts together, where they could be tokenised."""


def parse_body(body: bytes) -> dict[str, Any]:
    """The body's JSON object.

    Raises:
        UnreadableError: it is empty, or not a JSON object.

    """
    if not body:
        raise UnreadableError(Unreadable.EMPTY_BODY)
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(Unreadable.NOT_JSON) from error
    if not isinstance(fields, dict):
        raise UnreadableError(Unreadable.NOT_JSON)
    return fields


def session_id_of(fields: dict[str, Any]) -> str:
    """The client's own name for its conversation; empty without one.

    A value of another type is for vLLM to refuse. Anthropic's `metadata.user_id` names a person, who may have many.
    """
    names = (fields.get(field) for field in _SESSION_FIELDS)
    return next((name for name in names if isinstance(name, str) and name), "")


def previous_response_id_of(fields: dict[str, Any]) -> str | None:
    """Id of the stored response that this request continues; None if it continues none."""
    response_id = fields.get("previous_response_id")
    return response_id if isinstance(response_id, str) and response_id else None


def max_answer_tokens_of(fields: dict[str, Any]) -> int | None:
    """The longest answer that the client allows, in tokens of one choice; None if it names no limit.

    Nor does a wrong one count, which is for vLLM to refuse, or one that is longer than any model's context.
    """
    if "messages" in fields:
        limit = fields.get("max_completion_tokens")
        limit = fields.get("max_tokens") if limit is None else limit
    elif "input" in fields:
        limit = fields.get("max_output_tokens")
    else:
        limit = fields.get("max_tokens")
        if limit is None and "prompt" in fields:
            limit = COMPLETION_TOKENS
    if not isinstance(limit, int) or isinstance(limit, bool):
        return None
    return limit if 0 < limit <= MOST_ANSWER_TOKENS else None


def num_choices_of(fields: Mapping[str, Any]) -> int:
    """Answers to each prompt: `n`, which is the number of beams where they are searched for.

    It is read as vLLM's pydantic does, to which "3" is a number, too. A wrong one is for vLLM to refuse, and counts as
    one.
    """
    wanted = fields.get("n")
    if wanted is None:
        return 1
    try:
        return max(1, _INTEGER.validate_python(wanted))
    except ValidationError:
        return 1


def num_prompts_of(fields: Mapping[str, Any]) -> int:
    """More than one only in a list of them: of completions, or of whole chats (vLLM's `/v1/chat/completions/batch`).

    A body may have the fields of both, of which its path would say which one counts.
    """
    completions = sum(_num_listed(fields.get(name), str | list) for name in ("prompt", "prompt_embeds"))
    return max(1, completions, _num_listed(fields.get("messages"), list))


def num_sequences_of(fields: Mapping[str, Any]) -> int:
    """Number of the engine's sequences for the request: one for each answer to each prompt."""
    return num_prompts_of(fields) * num_choices_of(fields)


def _num_listed(value: object, kind: Any) -> int:  # noqa: ANN401  a union is not a type
    """Prompts in a field, which may be one by itself; a list of token ids is one, and one of messages."""
    if value is None:
        return 0
    return len(value) if isinstance(value, list) and value and isinstance(value[0], kind) else 1


_INTEGER = TypeAdapter(int)
COMPLETION_TOKENS = 16
"""OpenAI's limit for completions whose client names none, and so vLLM's."""
MOST_ANSWER_TOKENS = 2**31 - 1
_SESSION_FIELDS = ("session_id", "prompt_cache_key")
"""vLLM's own, "stable session identity shared by related requests", and OpenAI's, which several may share."""


def is_anthropic(fields: dict[str, Any]) -> bool:
    """Whether a body with `messages` is for the Messages API; the router is not told the path.

    Where neither API's own fields appear, both render the same prompt, so the answer does not matter.
    """
    if not _ANTHROPIC_FIELDS.isdisjoint(fields):
        return True
    choice = fields.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in _ANTHROPIC_CHOICES:
        return True
    tools = fields.get("tools")
    if isinstance(tools, list) and any(isinstance(tool, dict) and "input_schema" in tool for tool in tools):
        return True
    return any(_has_anthropic_content(message) for message in fields["messages"] or ())


def _has_anthropic_content(message: object) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return False
    return any(isinstance(part, dict) and part.get("type") in _ANTHROPIC_PARTS for part in content)


_ANTHROPIC_FIELDS = frozenset({"system", "stop_sequences", "output_config"})
_ANTHROPIC_CHOICES = frozenset({"auto", "any", "tool", "none"})
"""The chat API writes them as texts, and a tool's name as a `function`."""
_ANTHROPIC_PARTS = frozenset({"tool_use", "tool_result", "thinking", "redacted_thinking", "image"})

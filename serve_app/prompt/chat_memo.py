"""The text of a chat request, without having it validated and parsed as a whole again.

vLLM validates a request, turns each message into what its chat template reads, and renders all of that. Messages are
turned one by one, and what else the template reads comes from the request's other fields. So what was seen to come of
such fields, and of messages of such a shape, is taken to come of the same again; whatever was not seen before takes
vLLM's own way, and is learned from.
"""

import contextlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import orjson
import xxhash
from cachetools import LRUCache

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message]], str]
"""Makes the text of a conversation as the template reads it."""

MEMO_BYTES = 32 * 2**20
"""Size of a router's memo, which then has some thousands of forms that bring tools of their own."""
FORM_BYTES = 2048
"""Size of a form without what clients wrote: objects, key and dictionary entry, as measured by tracemalloc."""
SHAPE_BYTES = 640
"""Size of a shape that a form knows."""
_NUMBER, _TEXT, _ANY = (int, float), (str,), (object,)
IRRELEVANT_FIELDS: Mapping[str, tuple[type, ...]] = {
    "cache_salt": _TEXT,
    "frequency_penalty": _NUMBER,
    "ignore_eos": (bool,),
    "logit_bias": (dict,),
    "logprobs": (bool,),
    "max_completion_tokens": _NUMBER,
    "max_tokens": _NUMBER,
    "metadata": _ANY,
    "min_p": _NUMBER,
    "min_tokens": _NUMBER,
    "model": _TEXT,
    "n": _NUMBER,
    "presence_penalty": _NUMBER,
    "prompt_cache_key": _ANY,
    "repetition_penalty": _NUMBER,
    "safety_identifier": _ANY,
    "seed": _NUMBER,
    "service_tier": _ANY,
    "session_id": _ANY,
    "stop": (str, list),
    "store": _ANY,
    "stream": (bool,),
    "stream_options": (dict,),
    "temperature": _NUMBER,
    "top_k": _NUMBER,
    "top_logprobs": _NUMBER,
    "top_p": _NUMBER,
    "user": _TEXT,
}
"""Fields of a chat request that no prompt's tokens depend on, and their types. A value of another type, which vLLM may
refuse, is for vLLM to judge."""
RELEVANT_FIELDS = frozenset(
    {"chat_template_kwargs", "parallel_tool_calls", "reasoning_effort", "response_format", "tool_choice", "tools"}
)
"""Fields that may say what the template reads. A request with any other field is for vLLM alone to render."""
_PLAIN_FIELDS = frozenset({"role", "content"})
_SIMPLE_FIELDS = _PLAIN_FIELDS | {"tool_calls", "name", "tool_call_id"}
_ROLES = frozenset({"system", "user", "assistant", "tool"})


class Form:
    """What chat requests of the same other fields have in common.

    Args:
        parse: turns one message as vLLM does.
        render: makes the text of what came of all messages.
        content_bytes: what `render` keeps of the clients' fields, such as tools.

    """

    def __init__(self, *, parse: Callable[[Message], Message], render: Render, content_bytes: int) -> None:
        self._parse = parse
        self._render = render
        self._content_bytes = content_bytes
        self._shape_to_turn: dict[Hashable, Callable[[Message], Message]] = {}

    @property
    def num_bytes(self) -> int:
        """Estimated memory use, in bytes."""
        return FORM_BYTES + SHAPE_BYTES * len(self._shape_to_turn) + self._content_bytes

    def learn(self, message: Message, turned: Message) -> None:
        """Learn what vLLM made of the message."""
        shape = _shape(message)
        if shape is None or shape in self._shape_to_turn:
            return
        ways = (turn for turn in (_as_it_is, _in_parts, self._parse) if turn(message) == turned)
        turn = next(ways, None)
        if turn is not None:
            self._shape_to_turn[shape] = turn

    def text(self, messages: Sequence[Message]) -> str | None:
        """The text of a conversation; None where some message is of a new shape."""
        conversation = []
        for message in messages:
            turn = self._shape_to_turn.get(_shape(message))
            if turn is None:
                return None
            conversation.append(turn(message))
        return self._render(conversation)


class ChatMemo:
    """An LRU of forms. Used on one event loop only.

    Args:
        max_bytes: memory of all forms together, in bytes.

    """

    def __init__(self, *, max_bytes: int) -> None:
        self._key_to_form: LRUCache[bytes, Form] = LRUCache(max_bytes, getsizeof=lambda form: form.num_bytes)
        self.is_exact = True
        """False once something that was learned proved wrong. From then on nothing is known."""

    @property
    def num_forms(self) -> int:
        """Number of known forms."""
        return len(self._key_to_form)

    @property
    def num_bytes(self) -> int:
        """Estimated memory use of all forms, in bytes."""
        return int(self._key_to_form.currsize)

    def text(self, fields: Mapping[str, Any]) -> str | None:
        """The request's text; None where that is for vLLM to find out."""
        key = _key(fields)
        form = None if key is None else self._key_to_form.get(key)
        return None if form is None or not fields["messages"] else form.text(fields["messages"])

    def learn(
        self, fields: Mapping[str, Any], conversation: Sequence[Message], make_form: Callable[[], Form | None]
    ) -> None:
        """Learn the conversation that vLLM gave the template. The first request with such other fields makes a form."""
        key, messages = _key(fields), fields.get("messages")
        if key is None or not self.is_exact or messages is None or len(messages) != len(conversation):
            return
        form = self._key_to_form.get(key) or make_form()
        if form is None:
            return
        for message, turned in zip(messages, conversation, strict=True):
            form.learn(message, turned)
        with contextlib.suppress(ValueError):  # larger than all of the memory
            self._key_to_form[key] = form

    def forget(self) -> None:
        """Drop all that was learned: it is wrong."""
        self.is_exact = False
        self._key_to_form.clear()


def _key(fields: Mapping[str, Any]) -> bytes | None:
    """A key for all that the template reads besides messages; None where that cannot be told."""
    others = {}
    for name, value in fields.items():
        types = IRRELEVANT_FIELDS.get(name)
        if name in RELEVANT_FIELDS:
            others[name] = value
        elif name != "messages" and (types is None or not (value is None or isinstance(value, types))):
            return None
    if not isinstance(fields.get("messages"), list):
        return None
    # Within a field the order counts: a template writes the keys of tools as they come.
    return xxhash.xxh3_128_digest(orjson.dumps(sorted(others.items())))


def _shape(message: Any) -> Hashable | None:  # noqa: ANN401  whatever JSON holds
    """What messages have in common that are turned in one way; None for those that are not simple."""
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        return None
    content = message.get("content")
    is_plain = message.keys() == _PLAIN_FIELDS and isinstance(content, str)  # most messages by far
    if not is_plain and not _is_simple(message):
        return None
    return message["role"], frozenset(message), content is None, content == ""


def _is_simple(message: Message) -> bool:
    """Whether it has nothing but text, or calls of tools, or both."""
    content, calls = message.get("content"), message.get("tool_calls")
    if not (isinstance(content, str) or (content is None and calls)):
        return False
    if calls is not None and not (isinstance(calls, list) and calls and all(map(_is_call, calls))):
        return False
    texts = [message[name] for name in ("name", "tool_call_id") if name in message]
    return all(isinstance(text, str) for text in texts) and message.keys() <= _SIMPLE_FIELDS


def _is_call(call: Any) -> bool:  # noqa: ANN401  whatever JSON holds
    """Whether this is a tool call of the usual form."""
    if not isinstance(call, dict) or call.keys() != {"id", "type", "function"} or call["type"] != "function":
        return False
    function = call["function"]
    return (
        isinstance(call["id"], str)
        and isinstance(function, dict)
        and function.keys() == {"name", "arguments"}
        and all(isinstance(text, str) for text in function.values())
    )


def _as_it_is(message: Message) -> Message:
    return message


def _in_parts(message: Message) -> Message:
    """The message as templates of vLLM's content format `openai` read it; a tool call may have no text at all."""
    text = message.get("content")
    return message if text is None else {**message, "content": [{"type": "text", "text": text}]}

"""What vLLM's renderer is spared for prompts that begin as earlier ones did: tokenising, and most of its own work.

Adapter: private names of vLLM and transformers are listed in tests/serve_app/test_private_names.py.
"""

import copy
import logging
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jinja2
import orjson
from transformers.utils.chat_template_utils import _compile_jinja_template
from vllm.entrypoints.chat_utils import parse_chat_messages
from vllm.renderers.hf import (
    HfRenderer,
    resolve_chat_template,
    resolve_chat_template_content_format,
    resolve_chat_template_kwargs,
)
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.renderers.params import TokenizeParams

from serve_app import token_boundaries
from serve_app.chat_memo import ChatMemo, Form, Message, Render
from serve_app.token_memo import Encode, TokenMemo

logger = logging.getLogger("ray.serve")

CHECK_EVERY = 500
"""So many chats that vLLM need not render, one is rendered by it all the same, and compared."""

FORMS_SHARE = 1 / 8
"""Of the memo's memory, for what was learned of chats; the rest is for token ids."""

AsIds = Callable[["array[int]"], Sequence[int]]
Read = Callable[[dict[str, Any]], Awaitable[Sequence[int]]]


class Rendered(NamedTuple):
    """What a chat template was given, and what it made of that."""

    conversation: Sequence[Message]
    arguments: Mapping[str, Any]
    text: str


_notes: ContextVar[list[Rendered] | None] = ContextVar("warmroute_rendered", default=None)
"""Where vLLM's renderings for this request are noted."""


def make_prompt_memo(
    online_renderer: OnlineRenderer,
    model_config: Any,  # noqa: ANN401  vLLM's
    chat_template: str | None,
    *,
    max_bytes: int,
) -> "PromptMemo | None":
    """Made part of vLLM's renderer. None where there shall be none, or texts of this model cannot be cut."""
    forms_bytes = round(max_bytes * FORMS_SHARE)
    tokens = make_token_memo(online_renderer, chat_template, max_bytes=max_bytes - forms_bytes, as_ids=_as_array)
    return None if tokens is None else PromptMemo(online_renderer, model_config, tokens, max_bytes=forms_bytes)


def make_token_memo(
    online_renderer: OnlineRenderer, chat_template: str | None, *, max_bytes: int, as_ids: AsIds = list
) -> TokenMemo | None:
    """Made part of vLLM's tokenising. None where there shall be none, or texts of this model cannot be cut: then each
    is tokenised as a whole.

    Args:
        online_renderer: vLLM's, a router's or a replica's.
        chat_template: of the settings, before the tokenizer's own.
        max_bytes: of memory; 0 for none.
        as_ids: in which form a prompt gets its ids; an engine takes lists only.

    """
    renderer = online_renderer.renderer
    if max_bytes == 0 or type(renderer) is not HfRenderer or renderer.mm_processor is not None:
        return None  # images change token ids after all of this
    tokenizer = renderer.get_tokenizer()
    if not tokenizer.is_fast:
        return None  # which several threads can use at a time
    template = f"{chat_template or ''}{tokenizer.chat_template or ''}"
    boundary_to_id = token_boundaries.find_boundaries(tokenizer.added_tokens_decoder, template)
    if not boundary_to_id:
        logger.info("The chat template writes no token at which texts can be cut: prompts are tokenised as a whole")
        return None

    tokens = TokenMemo(
        _fast(tokenizer), reference=_plain(copy.deepcopy(tokenizer)), boundary_to_id=boundary_to_id, max_bytes=max_bytes
    )
    if not all(tokens.is_right(text) for text in 2 * token_boundaries.samples(boundary_to_id)):
        logger.info("This tokenizer's ids cannot be composed: prompts are tokenised as a whole")
        return None
    tokens.clear()
    _answer_for_tokenizer(renderer, tokens, as_ids)
    return tokens


def _as_array(ids: "array[int]") -> "array[int]":
    return ids


def _plain(tokenizer: Any) -> Encode:  # noqa: ANN401  transformers'
    """The tokenizer as vLLM uses it."""

    def encode(text: str) -> Sequence[int]:
        ids: Sequence[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    return encode


def _fast(tokenizer: Any) -> Encode:  # noqa: ANN401  transformers'
    """The same without what transformers does around it, and without offsets: a third faster, and it frees the GIL."""
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()

    def encode(text: str) -> Sequence[int]:
        ids: Sequence[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids

    return encode


def _answer_for_tokenizer(renderer: HfRenderer, tokens: TokenMemo, as_ids: AsIds) -> None:
    leading_ids, original = _leading_ids(renderer.get_tokenizer()), renderer._tokenize_prompt_async  # noqa: SLF001

    async def tokenize(prompt: Any, params: TokenizeParams) -> Any:  # noqa: ANN401  as vLLM's
        options = params.get_encode_kwargs()
        leading = leading_ids if options["add_special_tokens"] else array("I")
        if leading is None or params.return_token_offsets or params.pad_prompt_tokens is not None:
            return await original(prompt, params)
        token_ids = leading + await tokens.read(prompt["prompt"])
        if options["truncation"] and len(token_ids) > options["max_length"]:
            return await original(prompt, params)
        return {**prompt, "prompt_token_ids": as_ids(token_ids)}

    renderer._tokenize_prompt_async = tokenize  # noqa: SLF001


def _leading_ids(tokenizer: Any) -> "array[int] | None":  # noqa: ANN401  transformers'
    """What the tokenizer puts before a text where special tokens are wanted; None where it puts more than that."""
    ids: list[int] = tokenizer("text", add_special_tokens=False)["input_ids"]
    with_special: list[int] = tokenizer("text", add_special_tokens=True)["input_ids"]
    num_leading = len(with_special) - len(ids)
    return array("I", with_special[:num_leading]) if with_special[num_leading:] == ids else None


class PromptMemo:
    """Takes vLLM's place where a chat can be told without it, and learns from it where not.

    Used on one event loop only.

    Args:
        online_renderer: vLLM's; its tokenising goes through `tokens` already.
        model_config: vLLM's.
        tokens: of texts.
        max_bytes: of what is learned of chats.

    """

    def __init__(
        self,
        online_renderer: OnlineRenderer,
        model_config: Any,  # noqa: ANN401  vLLM's
        tokens: TokenMemo,
        *,
        max_bytes: int,
    ) -> None:
        self.tokens = tokens
        self.chats = ChatMemo(max_bytes=max_bytes)
        self._renderer = online_renderer.renderer
        self._content_format = online_renderer.chat_template_content_format
        self._model_config = model_config
        self._tokenizer = self._renderer.get_tokenizer()
        self._num_chats = 0
        self.num_fast_chats = 0
        """Those that vLLM need not render."""
        self._watch_templates()

    async def read_chat(self, fields: dict[str, Any], read: Read) -> Sequence[int]:
        """The token ids of a chat; `read` asks vLLM for them."""
        text = self.chats.text(fields)
        if text is not None and not self._is_check_due():
            token_ids: Sequence[int] = await self.tokens.read(text)
            if len(token_ids) <= self._model_config.max_model_len - _answer_tokens(fields):
                self.num_fast_chats += 1
                return token_ids
        notes: list[Rendered] = []
        token = _notes.set(notes)
        try:
            read_ids = await read(orjson.loads(orjson.dumps(fields)))  # vLLM writes into what it validates
        finally:
            _notes.reset(token)
        for rendered in notes:
            if text not in {None, rendered.text}:
                self.chats.forget()
                logger.error("The memo of chats made another text than vLLM: it is not used any more")
            self.chats.learn(fields, rendered.conversation, partial(self._form, rendered))
        return read_ids

    def snapshot(self) -> dict[str, int | bool]:
        """For operators. Counts only."""
        return {
            **self.tokens.snapshot(),
            "is_exact": self.tokens.is_exact and self.chats.is_exact,
            "bytes": self.num_bytes,
            "forms": self.chats.num_forms,
            "fast_chats": self.num_fast_chats,
        }

    @property
    def num_bytes(self) -> int:
        """Of memory, token ids and what was learned of chats together."""
        return self.tokens.num_bytes + self.chats.num_bytes

    def _is_check_due(self) -> bool:
        self._num_chats += 1
        return self._num_chats % CHECK_EVERY == 0

    def _watch_templates(self) -> None:
        renderer = self._renderer
        original = renderer._apply_chat_template_async  # noqa: SLF001

        async def apply(model_config: Any, tokenizer: Any, conversation: Any, **arguments: Any) -> Any:  # noqa: ANN401
            rendered = await original(model_config, tokenizer, conversation, **arguments)
            notes = _notes.get()
            if notes is not None and isinstance(rendered, str):
                notes.append(Rendered(conversation, arguments, rendered))
            return rendered

        renderer._apply_chat_template_async = apply  # noqa: SLF001

    def _form(self, rendered: Rendered) -> Form | None:
        """By which other chats with such arguments can be rendered; None if not even this one can."""
        own = self._own_variables(rendered.arguments)
        render = self._render(rendered.arguments, own)
        if render(rendered.conversation) != rendered.text:
            return None
        content_format = resolve_chat_template_content_format(
            chat_template=rendered.arguments.get("chat_template"),
            tools=rendered.arguments.get("tools"),
            given_format=self._content_format,
            tokenizer=self._tokenizer,
            model_config=self._model_config,
        )

        def parse(message: Message) -> Message:
            own = orjson.loads(orjson.dumps(message))  # vLLM writes into tool calls
            conversation, _, _ = parse_chat_messages([own], self._model_config, content_format=content_format)
            return conversation[0] if len(conversation) == 1 else {}

        return Form(parse=parse, render=render, content_bytes=len(own))

    def _template(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401  a text, or what transformers takes
        return resolve_chat_template(
            self._tokenizer, arguments.get("chat_template"), arguments.get("tools"), model_config=self._model_config
        )

    def _own_variables(self, arguments: Mapping[str, Any]) -> bytes:
        """What the template reads of these arguments, as JSON: as objects, tools take five times as much memory."""
        others = {name: value for name, value in arguments.items() if name not in _OWN_ARGUMENTS}
        resolved = resolve_chat_template_kwargs(self._tokenizer, str(self._template(arguments)), others)
        written = orjson.dumps({**resolved, "tools": arguments.get("tools")})
        return bytes(memoryview(written))  # orjson's own keep all of the larger buffer that they were written to

    def _render(self, arguments: Mapping[str, Any], own_variables: bytes) -> Render:
        """As vLLM and transformers do it, for conversations of nothing but JSON."""
        compiled = _compile(str(self._template(arguments)))
        variables = {"documents": None, "add_generation_prompt": False, **self._tokenizer.special_tokens_map}

        def render(conversation: Sequence[Message]) -> str:
            text: str = compiled.render({**variables, **orjson.loads(own_variables)}, messages=conversation)
            return text

        return render


@lru_cache
def _compile(template: str) -> jinja2.Template:
    """As transformers does, and with a shorter way to a dictionary's entries, which is a fifth to a half of the time.

    The sandbox looks for an attribute first, and for an entry when there is none.
    """
    compiled: jinja2.Template = _compile_jinja_template.__wrapped__(template)  # of our own: vLLM's stays as it is
    environment = compiled.environment
    of_attribute = environment.getattr

    def get(obj: Any, name: str) -> Any:  # noqa: ANN401  whatever templates read
        if type(obj) is dict and name in obj and name not in _DICT_ATTRIBUTES:
            return obj[name]
        return of_attribute(obj, name)

    environment.getattr = get  # type: ignore[method-assign, assignment]
    return compiled


_DICT_ATTRIBUTES = frozenset(dir(dict))

_OWN_ARGUMENTS = frozenset({"chat_template", "continue_final_message", "return_dict", "tokenize", "tools"})
"""Of `apply_chat_template`, which its template does not read."""


def _answer_tokens(fields: Mapping[str, Any]) -> int:
    """How many the client wants; 0 where it does not say."""
    wanted = fields.get("max_completion_tokens") or fields.get("max_tokens") or 0
    return wanted if isinstance(wanted, int) else 0

"""Chats as vLLM renders them, without most of its work where a similar chat was rendered before.

Adapter: private names of vLLM and transformers are listed in tests/serve_app/test_private_names.py.
"""

import logging
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

from serve_app.prompt import vllm_hooks
from serve_app.prompt.chat_memo import ChatMemo, Form, Message, Render

logger = logging.getLogger("ray.serve")

CHECK_EVERY = 500
"""One chat in this many that vLLM need not render is rendered by it all the same, and compared."""

Read = Callable[[dict[str, Any]], Awaitable[Sequence[int]]]
Apply = Callable[..., Awaitable[Any]]


class Rendered(NamedTuple):
    """What a chat template was given, and what it made of that."""

    conversation: Sequence[Message]
    arguments: Mapping[str, Any]
    text: str


_notes: ContextVar[list[Rendered] | None] = ContextVar("warmroute_rendered", default=None)
"""List that takes vLLM's renderings for this request."""


def make_chat_reader(
    online_renderer: OnlineRenderer,
    model_config: Any,  # noqa: ANN401  vLLM's
    *,
    max_memo_bytes: int,
) -> "ChatReader | None":
    """A reader; None without a memo, and where vLLM renders in a way of its own, as for models that take images."""
    renderer = online_renderer.renderer
    if max_memo_bytes == 0 or type(renderer) is not HfRenderer or renderer.mm_processor is not None:
        return None
    return ChatReader(online_renderer, model_config, max_memo_bytes=max_memo_bytes)


class ChatReader:
    """Takes vLLM's place where a chat can be told without it, and learns from it where not.

    Used on one event loop only.

    Args:
        online_renderer: vLLM's renderer.
        model_config: vLLM's configuration of the model.
        max_memo_bytes: memory for what is learned of chats, in bytes.

    """

    def __init__(
        self,
        online_renderer: OnlineRenderer,
        model_config: Any,  # noqa: ANN401  vLLM's
        *,
        max_memo_bytes: int,
    ) -> None:
        self._chats = ChatMemo(max_bytes=max_memo_bytes)
        self._renderer = online_renderer.renderer
        self._content_format = online_renderer.chat_template_content_format
        self._model_config = model_config
        self._tokenizer = self._renderer.get_tokenizer()
        self._num_chats = 0
        self.num_fast_chats = 0
        """Number of chats that vLLM need not render."""
        vllm_hooks.wrap_templates(self._renderer, _noting)

    async def read(self, fields: dict[str, Any], ask_vllm: Read) -> Sequence[int]:
        """The token ids of a chat."""
        text = self._chats.text(fields)
        if text is not None and not self._is_check_due():
            token_ids = await self._tokenize(text)
            if len(token_ids) <= self._model_config.max_model_len - _answer_tokens(fields):
                self.num_fast_chats += 1
                return token_ids
        notes: list[Rendered] = []
        token = _notes.set(notes)
        try:
            read_ids = await ask_vllm(orjson.loads(orjson.dumps(fields)))  # vLLM writes into what it validates
        finally:
            _notes.reset(token)
        for rendered in notes:
            if text not in {None, rendered.text}:
                self._chats.forget()
                logger.error("The memo of chats made another text than vLLM: it is not used any more")
            self._chats.learn(fields, rendered.conversation, partial(self._form, rendered))
        return read_ids

    @property
    def is_exact(self) -> bool:
        """False once what was learned proved wrong."""
        return self._chats.is_exact

    @property
    def num_bytes(self) -> int:
        """Estimated memory use of what was learned, in bytes."""
        return self._chats.num_bytes

    def snapshot(self) -> dict[str, int | bool]:
        """Counts for operators."""
        return {
            "is_exact": self._chats.is_exact,
            "bytes": self._chats.num_bytes,
            "forms": self._chats.num_forms,
            "chats": self._num_chats,
            "fast_chats": self.num_fast_chats,
        }

    async def _tokenize(self, text: str) -> Sequence[int]:
        prompt = await self._renderer._tokenize_prompt_async({"prompt": text}, _TEXT_ALONE)  # noqa: SLF001
        token_ids: Sequence[int] = prompt["prompt_token_ids"]
        return token_ids

    def _is_check_due(self) -> bool:
        self._num_chats += 1
        return self._num_chats % CHECK_EVERY == 0

    def _form(self, rendered: Rendered) -> Form | None:
        """A form by which other chats with such arguments can be rendered; None if not even this one can."""
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
        """Rendering as vLLM and transformers do it, for conversations of nothing but JSON."""
        compiled = _compile(str(self._template(arguments)))
        variables = {"documents": None, "add_generation_prompt": False, **self._tokenizer.special_tokens_map}

        def render(conversation: Sequence[Message]) -> str:
            text: str = compiled.render({**variables, **orjson.loads(own_variables)}, messages=conversation)
            return text

        return render


def _noting(apply: Apply) -> Apply:
    """Notes what a template was given and made, for whoever reads a chat now."""

    async def apply_and_note(model_config: Any, tokenizer: Any, conversation: Any, **arguments: Any) -> Any:  # noqa: ANN401
        rendered = await apply(model_config, tokenizer, conversation, **arguments)
        notes = _notes.get()
        if notes is not None and isinstance(rendered, str):
            notes.append(Rendered(conversation, arguments, rendered))
        return rendered

    return apply_and_note


@lru_cache
def _compile(template: str) -> jinja2.Template:
    """Compile as transformers does, with a shorter way to a dictionary's entries, which saves up to half of the time.

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
"""Arguments of `apply_chat_template` that its template does not read."""


def _answer_tokens(fields: Mapping[str, Any]) -> int:
    """Tokens that the client wants at most; 0 where it does not say."""
    wanted = fields.get("max_completion_tokens") or fields.get("max_tokens") or 0
    return wanted if isinstance(wanted, int) else 0


_TEXT_ALONE = TokenizeParams(max_total_tokens=None, add_special_tokens=False)
"""Templates write special tokens themselves."""

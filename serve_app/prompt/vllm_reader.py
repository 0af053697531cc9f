"""Request body to prompt token ids, exactly as the engine will see them: with vLLM's own renderer.

Adapter: private names of Ray and vLLM are listed in tests/serve_app/test_private_names.py.
"""

import logging
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ray.llm._internal.serve.engines.vllm.vllm_engine import _get_vllm_engine_config
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.chat_utils import load_chat_template
from vllm.entrypoints.launchers.cli_args import FrontendArgs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.openai.responses.utils import construct_input_messages, construct_tool_dicts
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.exceptions import VLLMClientError
from vllm.renderers import renderer_from_config
from vllm.renderers.inputs.preprocess import extract_prompt_components
from vllm.renderers.online_renderer import OnlineRenderer

from serve_app.messages.snapshot import ReaderSnapshot
from serve_app.prompt.body import Prompt, Unreadable, UnreadableError, is_anthropic, num_prompts_of
from serve_app.prompt.chat_memo import MEMO_BYTES
from serve_app.prompt.media import Placeholder, has_unread_media
from serve_app.prompt.validation import check_num_objects, fail_fast, validate
from serve_app.prompt.vllm_chat_reader import make_chat_reader
from serve_app.prompt.vllm_client_faults import of_the_client
from serve_app.prompt.vllm_tokenizing import Tokenizing
from serve_app.settings import vllm_options
from serve_app.settings.schema import TokenizerName
from serve_app.settings.vllm_options import NO_DOMAIN

logger = logging.getLogger("ray.serve")


class _Tokens(NamedTuple):
    """A prompt's token ids, and where its images stand among them."""

    token_ids: Sequence[int]
    images: Sequence[Placeholder] = ()


class PromptReader:
    """Renders and tokenises as the engine does, in vLLM's worker threads, never on the event loop.

    vLLM compares the text's length with the model's limit before it tokenises, so an over-long
    prompt costs no tokenisation here either.

    Args:
        llm: the setting `llm`.
        tokenizer: the setting `tokenizer`.
        max_memo_bytes: memory for what is learned of chats, in bytes; 0 to have vLLM render each.
        max_prompt_tokens: the longest prompt, in place of the model's own limit.

    Raises:
        SettingsError: the tokenizer that is asked for is not fit for the model.

    """

    def __init__(
        self,
        llm: dict[str, Any],
        *,
        tokenizer: TokenizerName = "auto",
        max_memo_bytes: int = MEMO_BYTES,
        max_prompt_tokens: int | None = None,
    ) -> None:
        fail_fast(AnthropicMessagesRequest, ChatCompletionRequest, CompletionRequest, ResponsesRequest)
        llm_config = vllm_options.parse(llm)
        engine_config = llm_config.get_engine_config()
        _, vllm_config = _get_vllm_engine_config(llm_config, device_type="cpu")
        frontend = FrontendArgs(**engine_config.frontend_kwargs)
        self._model_config = vllm_config.model_config
        if max_prompt_tokens is not None:
            self._model_config.max_model_len = max_prompt_tokens
        # vLLM opens what else is in these two, whoever asks for it.
        self._model_config.allowed_media_domains = [NO_DOMAIN]
        self._model_config.allowed_local_media_path = ""
        self._chat_template = load_chat_template(frontend.chat_template)
        self._renderer = OnlineRenderer(
            self._model_config,
            renderer_from_config(vllm_config),
            request_logger=None,
            chat_template=self._chat_template,
            chat_template_content_format=frontend.chat_template_content_format,
            trust_request_chat_template=frontend.trust_request_chat_template,
            enable_auto_tools=frontend.enable_auto_tool_choice,
            exclude_tools_when_tool_choice_none=frontend.exclude_tools_when_tool_choice_none,
            tool_parser=frontend.tool_call_parser,
            reasoning_parser=vllm_config.structured_outputs_config.reasoning_parser,
            default_chat_template_kwargs=frontend.default_chat_template_kwargs,
        )
        self._merge_inline_system = AnthropicServingMessages._detect_merge_inline_system(  # noqa: SLF001
            self._chat_template
        )
        self._takes_media = self._renderer.renderer.mm_processor is not None
        self.max_model_len: int = self._model_config.max_model_len
        self.tokenizing = Tokenizing(self._renderer.renderer, tokenizer, as_ids=_as_they_are)
        self.chats = make_chat_reader(self._renderer, self._model_config, max_memo_bytes=max_memo_bytes)

    @property
    def tokenizer(self) -> str:
        """The tokenizer in use, and why it is not fastokens."""
        return self.tokenizing.state

    def snapshot(self) -> ReaderSnapshot:
        """Counts for operators."""
        return ReaderSnapshot(
            tokenizer=self.tokenizing.state,
            fast_texts=self.tokenizing.num_fast_texts,
            chats=None if self.chats is None else self.chats.snapshot(),
        )

    async def read(self, fields: dict[str, Any]) -> Prompt:
        """The prompt of an OpenAI or Anthropic request, given as its body's fields; nothing that these name is opened.

        Raises:
            UnreadableError: there is none, or more than one.

        """
        try:
            with of_the_client():
                token_ids, images = await self._tokenize(fields)
        except VLLMClientError as error:
            raise UnreadableError(Unreadable.REJECTED) from error
        except UnreadableError:
            raise
        except Exception as error:
            # The prompt must not reach the log, so the message stays out of it.
            logger.error("Cannot render a prompt: %s", type(error).__name__)  # noqa: TRY400
            raise UnreadableError(Unreadable.RENDER_ERROR) from error
        return Prompt(token_ids, cache_salt=str(fields.get("cache_salt") or ""), images=images)

    async def _tokenize(self, fields: dict[str, Any]) -> _Tokens:
        check_num_objects(fields, max_objects=self.max_model_len)
        if self._takes_media and has_unread_media(fields):
            raise UnreadableError(Unreadable.UNSUPPORTED_INPUT)
        if "messages" in fields:
            if num_prompts_of(fields) > 1:
                raise UnreadableError(Unreadable.SEVERAL_PROMPTS)
            if is_anthropic(fields):
                return await self._read_chat(await self._from_anthropic(fields))
            if self.chats is not None:
                return _Tokens(await self.chats.read(fields, self._read_ids))
            return await self._validate_and_read_chat(fields)
        if "input" in fields:
            return await self._read_responses(fields)
        if "prompt" in fields:
            return await self._read_completion(fields)
        raise UnreadableError(Unreadable.NO_PROMPT)

    async def _from_anthropic(self, fields: dict[str, Any]) -> ChatCompletionRequest:
        request = await validate(AnthropicMessagesRequest, fields, "messages")
        return AnthropicServingMessages.to_chat_completion_request(
            request, merge_inline_system=self._merge_inline_system
        )

    async def _validate_and_read_chat(self, fields: dict[str, Any]) -> _Tokens:
        return await self._read_chat(await validate(ChatCompletionRequest, fields, "messages"))

    async def _read_ids(self, fields: dict[str, Any]) -> Sequence[int]:
        return (await self._validate_and_read_chat(fields)).token_ids

    async def _read_chat(self, request: ChatCompletionRequest) -> _Tokens:
        rendered = await self._renderer.render_chat(request, skip_mm_cache=True)
        return self._only_prompt(rendered if isinstance(rendered, ErrorResponse) else rendered[1])

    async def _read_completion(self, fields: dict[str, Any]) -> _Tokens:
        request = CompletionRequest.model_validate(fields)
        return self._only_prompt(await self._renderer.render_completion(request, skip_mm_cache=True))

    async def _read_responses(self, fields: dict[str, Any]) -> _Tokens:
        """Render as `OpenAIServingResponses._make_request` does, without its store of earlier responses."""
        if fields.get("previous_response_id"):
            raise UnreadableError(Unreadable.STORED_STATE)
        request = await validate(ResponsesRequest, fields, "input")
        renderer = self._renderer
        chat_params = request.build_chat_params(self._chat_template, renderer.chat_template_content_format)
        _, engine_inputs = await renderer.preprocess_chat(
            request,
            construct_input_messages(request_instructions=request.instructions, request_input=request.input),
            default_template=self._chat_template,
            default_template_content_format=renderer.chat_template_content_format,
            default_template_kwargs=chat_params.with_defaults(
                renderer.default_chat_template_kwargs
            ).chat_template_kwargs,
            tool_dicts=construct_tool_dicts(
                request.tools, request.tool_choice, renderer.exclude_tools_when_tool_choice_none
            ),
            parser=renderer.parser,
            skip_mm_cache=True,
        )
        return self._only_prompt(engine_inputs)

    def _only_prompt(self, engine_inputs: Any) -> _Tokens:  # noqa: ANN401  vLLM's union of input types
        if isinstance(engine_inputs, ErrorResponse):
            raise UnreadableError(Unreadable.REJECTED)
        prompts = [
            extract_prompt_components(self._model_config, engine_input).token_ids for engine_input in engine_inputs
        ]
        if None in prompts:
            raise UnreadableError(Unreadable.NO_PROMPT)
        if len(prompts) != 1:
            raise UnreadableError(Unreadable.SEVERAL_PROMPTS, num_prompt_tokens=sum(map(len, prompts)))
        (engine_input,), (token_ids,) = engine_inputs, prompts
        if engine_input["type"] == "multimodal":
            return _Tokens(token_ids, tuple(_placeholders(engine_input)))
        return _Tokens(token_ids)


def _as_they_are(ids: "array[int]") -> "array[int]":
    return ids


def _placeholders(engine_input: Any) -> Iterator[Placeholder]:  # noqa: ANN401  vLLM's MultiModalInput
    for modality, ranges in engine_input["mm_placeholders"].items():
        for content_hash, place in zip(engine_input["mm_hashes"][modality], ranges, strict=True):
            yield Placeholder(content_hash, place.offset, place.length)

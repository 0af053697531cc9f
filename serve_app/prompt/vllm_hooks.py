"""Every place where a method of vLLM's is replaced while it runs, each with the reason why vLLM offers no other way.

What takes a method's place is in the modules that call these functions. Nothing of vLLM's is imported here.

Adapter: private names of vLLM are listed in tests/serve_app/test_private_names.py.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

logger = logging.getLogger("ray.serve")

Method = Callable[..., Any]
Wrap = Callable[[Method], Method]
"""Makes what takes a method's place, from the method."""

READERS = {
    "online_renderer": ("render_chat", "render_completion", "preprocess_chat", "preprocess_completion"),
    "openai_serving_responses": ("_make_request", "_make_request_with_harmony"),
    "anthropic_serving_messages": ("to_chat_completion_request",),
}
"""What reads bodies, by its name in the state of vLLM's app."""
LOGGING_ANSWERERS = {"anthropic_serving_messages": ("create_messages", "count_tokens")}
"""What lets its caller log every error in the error's own words, by its name in the state of vLLM's app."""


def wrap_tokenizing(renderer: Any, wrap: Wrap) -> None:  # noqa: ANN401  vLLM's
    """vLLM has no setting for another tokenizer behind its own renderer."""
    _replace(renderer, "_tokenize_prompt_async", wrap)


def wrap_templates(renderer: Any, wrap: Wrap) -> None:  # noqa: ANN401  vLLM's
    """vLLM does not tell what a chat template was given, nor the text that it made of that."""
    _replace(renderer, "_apply_chat_template_async", wrap)


def wrap_body_readers(app: Any, wrap: Wrap) -> None:  # noqa: ANN401  vLLM's FastAPI
    """vLLM answers 500 where a body breaks the code that reads it."""
    for owner, name in _methods(app, READERS):
        _replace(owner, name, wrap)


def wrap_logging_answerers(app: Any, wrap: Callable[[Any, Method], Method]) -> None:  # noqa: ANN401  vLLM's FastAPI
    """vLLM logs a client's words where it makes these answers; `wrap` is given their owner as well."""
    for owner, name in _methods(app, LOGGING_ANSWERERS):
        _replace(owner, name, functools.partial(wrap, owner))


def wrap_request_making(engine_client: Any, wrap: Wrap) -> None:  # noqa: ANN401  vLLM's AsyncLLM
    """vLLM answers 500 where it cannot make an engine's request of a body."""
    _replace(engine_client.input_processor, "process_inputs", wrap)


def wrap_request_sending(engine_client: Any, wrap: Wrap) -> None:  # noqa: ANN401  vLLM's AsyncLLM
    """vLLM keeps a request that it could not send as if the engine had it."""
    _replace(engine_client, "_add_request", wrap)


def wrap_generating(engine_client: Any, wrap: Wrap) -> None:  # noqa: ANN401  vLLM's AsyncLLM
    """vLLM answers 500 where the engine cannot keep to a client's structure."""
    _replace(engine_client, "generate", wrap)


def wrap_response_making(app: Any, wrap: Wrap) -> None:  # noqa: ANN401  vLLM's FastAPI
    """vLLM gives a response a random id, which does not say which replica has stored it."""
    serving = getattr(app.state, "openai_serving_responses", None)
    if serving is not None:  # the model generates text
        _replace(serving, "create_responses", wrap)


def replace_response_store(app: Any, store: dict[str, Any]) -> None:  # noqa: ANN401  vLLM's FastAPI
    """vLLM gives a stored response to whoever knows its id."""
    serving = getattr(app.state, "openai_serving_responses", None)
    if serving is not None:  # the model generates text
        serving.response_store = store


def after_reset(engine_client: Any, on_reset: Callable[[], None]) -> None:  # noqa: ANN401  vLLM's AsyncLLM
    """vLLM tells of an emptied prefix cache only with its next step."""

    def wrap(reset: Method) -> Method:
        async def reset_and_tell(*args: Any, **kwargs: Any) -> bool:  # noqa: ANN401
            is_done = bool(await reset(*args, **kwargs))
            if is_done:
                on_reset()
            return is_done

        return reset_and_tell

    _replace(engine_client, "reset_prefix_cache", wrap)


def before_outputs(output_processor: Any, observe: Method) -> None:  # noqa: ANN401  vLLM's
    """vLLM's metrics do not say which request took how many tokens from the cache."""
    _before(output_processor, "process_outputs", observe)


def before_scheduler_stats(output_processor: Any, observe: Method) -> None:  # noqa: ANN401  vLLM's
    """vLLM's metrics come by scraping, too late for routing."""
    _before(output_processor, "update_scheduler_stats", observe)


def before_errors(output_processor: Any, observe: Method) -> None:  # noqa: ANN401  vLLM's
    """vLLM tells only its streams that the engine has died."""
    _before(output_processor, "propagate_error", observe)


def after_adding(output_processor: Any, observe: Method) -> None:  # noqa: ANN401  vLLM's
    """vLLM names each sequence by an id of its own, and tells here which request it is for."""
    _after(output_processor, "add_request", observe)


def after_aborting(output_processor: Any, observe: Method) -> None:  # noqa: ANN401  vLLM's
    """vLLM gives no output for a sequence that is aborted before its first token."""
    _after(output_processor, "abort_requests", observe)


def publish_kv_events_by(make_publisher: Method) -> None:
    """vLLM's setting for the publisher takes the names of its own two publishers only."""
    from vllm.distributed.kv_events import EventPublisherFactory

    EventPublisherFactory._registry["zmq"] = make_publisher  # noqa: SLF001


def _methods(app: Any, owner_to_names: Mapping[str, Sequence[str]]) -> Iterator[tuple[Any, str]]:  # noqa: ANN401
    """Owners and names of methods; none where the model does not have that API."""
    for owner_name, names in owner_to_names.items():
        owner = getattr(app.state, owner_name, None)
        if owner is not None:
            yield from ((owner, name) for name in names)


def _replace(owner: Any, name: str, wrap: Wrap) -> None:  # noqa: ANN401  vLLM's
    setattr(owner, name, wrap(getattr(owner, name)))


def _before(owner: Any, name: str, observe: Method) -> None:  # noqa: ANN401  vLLM's
    def wrap(original: Method) -> Method:
        def observed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            _guarded(observe, *args, **kwargs)
            return original(*args, **kwargs)

        return observed

    _replace(owner, name, wrap)


def _after(owner: Any, name: str, observe: Method) -> None:  # noqa: ANN401  vLLM's
    def wrap(original: Method) -> Method:
        def observed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            result = original(*args, **kwargs)
            _guarded(observe, result, *args, **kwargs)
            return result

        return observed

    _replace(owner, name, wrap)


def _guarded(observe: Method, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
    """An error of ours never reaches vLLM."""
    try:
        observe(*args, **kwargs)
    except Exception:
        logger.exception("Cannot account for what the engine reports")

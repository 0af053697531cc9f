"""The `llm` part of the settings: Ray Serve LLM's own options and vLLM's."""

import json
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from serve_app.settings.load import SettingsError
from serve_app.settings.schema import Settings

MEDIA_DOMAINS = "allowed_media_domains"

NO_DOMAIN = "none.invalid"
"""For vLLM, which takes an empty list of domains for all of them. No one can have this one (RFC 2606)."""


def parse(llm: dict[str, Any]) -> Any:  # noqa: ANN401  Ray ships no types
    """Ray's `LLMConfig`, its engine arguments checked as well.

    Raises:
        SettingsError: names the key, the value and what is allowed.

    """
    from ray.llm._internal.serve.core.configs.llm_config import LLMConfig

    try:
        llm_config = LLMConfig(**llm)
        llm_config.engine_kwargs = _checked(llm_config.engine_kwargs)
        model = llm_config.get_engine_config().actual_hf_model_id
    except SettingsError:
        raise
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(fault) for fault in error.errors())) from None
    except (ValueError, TypeError) as error:
        raise SettingsError(f"  llm: {error}") from None
    if _takes_media(model):
        check_media_domains(model, llm_config.engine_kwargs)
    return llm_config


def check_media_domains(model: str, arguments: Mapping[str, Any]) -> None:
    """Of a model that takes images, sounds or films, it is said where they may come from.

    Raises:
        SettingsError: vLLM would open any URL for any client.

    """
    if arguments.get(MEDIA_DOMAINS) is None:
        raise SettingsError(
            f"  llm.engine_kwargs.{MEDIA_DOMAINS} is not set, and {model} takes images, sounds or films: vLLM would "
            "fetch them from any URL that a client names, also of hosts that only the replicas can reach. List the "
            "domains that clients may name, or set [] for none, so that media come with their requests"
        )


def with_absolute_model_path(settings: Settings) -> Settings:
    """A model source that is a folder here, made absolute: Ray's workers run elsewhere.

    Raises:
        SettingsError: it looks like a path, and nothing is there.

    """
    loading = settings.llm.get("model_loading_config", {})
    source = loading.get("model_source")
    if not isinstance(source, str) or source.startswith(("s3://", "gs://", "abfss://", "azure://")):
        return settings
    if Path(source).is_dir():
        absolute = {**settings.llm, "model_loading_config": {**loading, "model_source": str(Path(source).resolve())}}
        return settings.model_copy(update={"llm": absolute})
    if source.startswith((".", "/")):
        msg = f"  llm.model_loading_config.model_source = {source!r}: no such folder"
        raise SettingsError(msg)
    return settings


def _takes_media(model: str) -> bool:
    """By the configuration of a model that is here: a folder, or in Hugging Face's cache. Of others, nothing is known
    before a replica has them.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from vllm.model_executor.models.registry import _MULTIMODAL_MODELS

    try:
        cached = None if Path(model).is_dir() else try_to_load_from_cache(model, "config.json")
    except HFValidationError:  # a URL of a bucket, say
        return False
    path = Path(cached) if isinstance(cached, str) else Path(model, "config.json")
    if not path.is_file():
        return False
    architectures = json.loads(path.read_text()).get("architectures") or ()
    return any(each in _MULTIMODAL_MODELS for each in architectures)


def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
    """Names and types are right; vLLM itself checks the values against each other when it starts.

    What its own command line would parse, such as `lora_modules`, is what it would make of it.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import FrontendArgs

    frontend_types: dict[str, Any] = {field.name: field.type for field in fields(FrontendArgs)}
    name_to_type = frontend_types | {field.name: field.type for field in fields(AsyncEngineArgs)}
    checked = dict(arguments)
    for name, value in arguments.items():
        place = f"  llm.engine_kwargs.{name} = {value!r}"
        if name not in name_to_type:
            similar = get_close_matches(name, name_to_type, n=3)
            hint = f"did you mean {' or '.join(similar)}?" if similar else "`vllm serve --help=all` lists them."
            raise SettingsError(f"{place}: vLLM has no such argument; {hint}")
        try:
            parsed = TypeAdapter(name_to_type[name]).validate_python(value)
        except PydanticSchemaGenerationError:
            continue  # a type of vLLM's own, which only vLLM can check
        except ValidationError as error:
            raise SettingsError(f"{place}: {error.errors()[0]['msg']}") from None
        if name in frontend_types:
            checked[name] = parsed
    if checked.get(MEDIA_DOMAINS) == []:
        checked[MEDIA_DOMAINS] = [NO_DOMAIN]
    return checked


def _explain(fault: Any) -> str:  # noqa: ANN401  pydantic's ErrorDetails
    key = ".".join(("llm", *(str(part) for part in fault["loc"])))
    return f"  {key} = {fault['input']!r}: {fault['msg']}"

"""The `llm` part of the settings: Ray Serve LLM's own options and vLLM's."""

from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from serve_app.settings import Settings, SettingsError


def parse(llm: dict[str, Any]) -> Any:  # noqa: ANN401  Ray ships no types
    """Ray's `LLMConfig`, its engine arguments checked as well.

    Raises:
        SettingsError: names the key, the value and what is allowed.

    """
    from ray.llm._internal.serve.core.configs.llm_config import LLMConfig

    try:
        llm_config = LLMConfig(**llm)
        llm_config.engine_kwargs = _checked(llm_config.engine_kwargs)
        llm_config.get_engine_config()
    except SettingsError:
        raise
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(fault) for fault in error.errors())) from None
    except (ValueError, TypeError) as error:
        raise SettingsError(f"  llm: {error}") from None
    return llm_config


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
    return checked


def _explain(fault: Any) -> str:  # noqa: ANN401  pydantic's ErrorDetails
    key = ".".join(("llm", *(str(part) for part in fault["loc"])))
    return f"  {key} = {fault['input']!r}: {fault['msg']}"

"""The `llm` part of the settings: Ray Serve LLM's own options and vLLM's."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from serve_app.settings import Settings, SettingsError


def parse(llm: dict[str, Any]) -> Any:  # noqa: ANN401  Ray ships no types
    """Ray's `LLMConfig`, its engine arguments checked as well.

    Raises:
        SettingsError: names the key, the value and what is allowed.

    """
    from ray.llm._internal.serve.core.configs.llm_config import LLMConfig

    try:
        llm_config = LLMConfig(**llm)
        _check_engine_arguments(llm_config)
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


def _check_engine_arguments(llm_config: Any) -> None:  # noqa: ANN401
    """Ray splits the arguments between engine and HTTP server and refuses those that neither knows."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    engine_config = llm_config.get_engine_config()
    known = set(AsyncEngineArgs.__dataclass_fields__)
    unknown = sorted(set(engine_config.engine_kwargs) - known)
    if unknown:
        msg = (
            f"engine_kwargs.{unknown[0]} = {engine_config.engine_kwargs[unknown[0]]!r} is not an engine argument of "
            "this vLLM; `vllm serve --help=all` lists them, with - for _"
        )
        raise ValueError(msg)


def _explain(fault: Any) -> str:  # noqa: ANN401  pydantic's ErrorDetails
    key = ".".join(("llm", *(str(part) for part in fault["loc"])))
    return f"  {key} = {fault['input']!r}: {fault['msg']}"

"""vLLM's own server, without Ray and without a router, as the settings describe it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import vllm_server
from benchmarks.keys.models import Model
from serve_app.settings.load import shipped_settings

DEMO_SETTINGS = shipped_settings("cpu-demo.yaml")
MAX_MODEL_LEN = 32_768
MODEL_NAME = "demo"
KV_CACHE_GIB = 2


def llm_settings(model: Model) -> dict[str, Any]:
    """The demo's, for this model, with more room: prompts are long, and none shall be evicted."""
    llm: dict[str, Any] = yaml.safe_load(DEMO_SETTINGS.read_text())["llm"]
    llm["model_loading_config"] = {"model_id": MODEL_NAME, "model_source": str(model.folder.resolve())}
    del llm["engine_kwargs"]["num_gpu_blocks_override"]
    llm["engine_kwargs"] |= {"max_model_len": MAX_MODEL_LEN, "enable_prefix_caching": True, **model.engine_kwargs}
    llm["runtime_env"]["env_vars"]["VLLM_CPU_KVCACHE_SPACE"] = str(KV_CACHE_GIB)
    return llm


@contextmanager
def running_engine(llm: Mapping[str, Any], *, log: Path) -> Iterator[str]:
    """The server's URL, once it is ready; the server is stopped afterwards.

    Raises:
        LiveError: it did not become ready.

    """
    with vllm_server.running(_options(llm), variables=llm["runtime_env"]["env_vars"], log=log) as url:
        yield url


def command(llm: Mapping[str, Any], *, port: int) -> list[str]:
    """How the server is started, with the engine options that the settings give."""
    return vllm_server.command(_options(llm), port=port)


def _options(llm: Mapping[str, Any]) -> dict[str, Any]:
    loading = llm["model_loading_config"]
    return {"model": loading["model_source"], "served_model_name": loading["model_id"], **llm["engine_kwargs"]}

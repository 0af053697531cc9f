"""The settings of the engine that is asked: the demo's, for one of the models."""

from typing import Any

import yaml

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

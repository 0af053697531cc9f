"""Which model, and which adapter of it, a request is for."""

import pytest

from serve_app.prompt.served_model import ServedModel

LLM = {"model_loading_config": {"model_id": "org/base"}}
LOADING = LLM | {"lora_config": {"dynamic_lora_loading_path": "s3://bucket"}}


@pytest.mark.parametrize(
    ("model", "adapter"),
    [("org/base", ""), ("", ""), (None, ""), (7, ""), ("support", "support"), ("org/base:a", "org/base:a")],
)
def test_what_is_not_the_base_model_is_an_adapter(model: object, adapter: str) -> None:
    """And no name means the base, as for vLLM."""
    assert ServedModel.from_llm(LLM).adapter(model) == adapter


@pytest.mark.parametrize(
    "adapter",
    ["", "support", "other:a", "org/base", "org/base:", "org/base:.", "org/base:../a", 'org/base:a"', "org/base:a\n"],
)
def test_ray_loads_only_adapters_of_the_base_model(adapter: str) -> None:
    """Of whose names nothing but a plain one goes into a header."""
    assert ServedModel.from_llm(LOADING).adapter_to_load(adapter) is None


def test_ray_loads_adapters_only_if_it_is_told_from_where() -> None:
    """Without `lora_config` a replica would answer 500."""
    assert ServedModel.from_llm(LOADING).adapter_to_load("org/base:a:1") == "org/base:a:1"
    for llm in (LLM, LLM | {"lora_config": None}, LLM | {"lora_config": {"max_num_adapters_per_replica": 4}}):
        assert ServedModel.from_llm(llm).adapter_to_load("org/base:a:1") is None

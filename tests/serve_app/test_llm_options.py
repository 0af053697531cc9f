"""Ray's and vLLM's own options, checked before anything is started for them."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.llm_options import parse
from serve_app.settings import SettingsError, load_settings

CONFIGS = sorted((Path(__file__).parent.parent.parent / "configs").glob("*.yaml"))
GOOD: dict[str, Any] = {"model_loading_config": {"model_id": "m", "model_source": "org/m"}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_options_suit_ray_and_vllm(path: Path) -> None:
    """Of this Ray and this vLLM."""
    assert parse(load_settings(path).llm).model_id == load_settings(path).model_id


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"engine_kwargs": {"block_sise": 3}}, "llm.engine_kwargs.block_sise = 3: vLLM has no such argument; did you"),
        (
            {"engine_kwargs": {"zzz": 1}},
            "llm.engine_kwargs.zzz = 1: vLLM has no such argument; `vllm serve",
        ),
        ({"engine_kwargs": {"max_model_len": "many"}}, "llm.engine_kwargs.max_model_len = 'many': Input should be"),
        ({"engine_kwargs": {"lora_modules": [{"name": "a"}]}}, "llm.engine_kwargs.lora_modules = [{'name': 'a'}]: "),
        ({"enjine_kwargs": {}}, "llm.enjine_kwargs = {}: Extra inputs are not permitted"),
        ({"engine_kwargs": 5}, "llm.engine_kwargs = 5: Input should be a valid dictionary"),
        ({"accelerator_config": {"kind": "abacus"}}, "abacus"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(wrong: dict[str, Any], expected: str) -> None:
    """And what would be right."""
    with pytest.raises(SettingsError) as caught:
        parse({**GOOD, **wrong})
    assert expected in str(caught.value)


def test_adapters_are_what_vllms_command_line_would_make_of_them() -> None:
    """Ray hands them on as they are, and vLLM reads attributes."""
    arguments = {"enable_lora": True, "lora_modules": [{"name": "a", "path": "/adapters/a"}]}
    (adapter,) = parse({**GOOD, "engine_kwargs": arguments}).engine_kwargs["lora_modules"]
    assert (adapter.name, adapter.path) == ("a", "/adapters/a")
    assert arguments["lora_modules"] == [{"name": "a", "path": "/adapters/a"}]

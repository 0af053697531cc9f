"""Ray's and vLLM's own options, checked before anything is started for them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.settings.load import SettingsError, load_settings
from serve_app.settings.vllm_options import NO_DOMAIN, parse

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
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


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], Path]:
    """A folder that says it is a model of this architecture."""

    def write(architecture: str) -> Path:
        (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        return tmp_path

    return write


def llm_of(source: Path, **engine_kwargs: Any) -> dict[str, Any]:
    """Settings of it."""
    return {"model_loading_config": {"model_id": "m", "model_source": str(source)}, "engine_kwargs": engine_kwargs}


@pytest.mark.parametrize(
    "architecture",
    ["Idefics3ForConditionalGeneration", "Qwen2AudioForConditionalGeneration", "WhisperForConditionalGeneration"],
)
def test_where_media_may_come_from_must_be_said(model: Callable[[str], Path], architecture: str) -> None:
    """Of a model that takes some; vLLM would open any URL."""
    source = model(architecture)
    for arguments in ({}, {"allowed_media_domains": None}):
        with pytest.raises(SettingsError, match=r"llm\.engine_kwargs\.allowed_media_domains is not set, and .*\[\]"):
            parse(llm_of(source, **arguments))


def test_no_domain_is_none_and_some_are_those(model: Callable[[str], Path]) -> None:
    """vLLM takes an empty list for all domains, so it gets one that nobody has."""
    source = model("Idefics3ForConditionalGeneration")
    for domains, expected in ([], [NO_DOMAIN]), (["a.example"], ["a.example"]):
        arguments = parse(llm_of(source, allowed_media_domains=domains)).engine_kwargs
        assert arguments["allowed_media_domains"] == expected


def test_a_model_of_text_need_not_say_it(model: Callable[[str], Path]) -> None:
    """Nor one that is not here; its replicas will look."""
    for source in (model("LlamaForCausalLM"), Path("org/model"), Path("s3://bucket/model")):
        assert "allowed_media_domains" not in parse(llm_of(source)).engine_kwargs


def test_adapters_are_what_vllms_command_line_would_make_of_them() -> None:
    """Ray hands them on as they are, and vLLM reads attributes."""
    arguments = {"enable_lora": True, "lora_modules": [{"name": "a", "path": "/adapters/a"}]}
    (adapter,) = parse({**GOOD, "engine_kwargs": arguments}).engine_kwargs["lora_modules"]
    assert (adapter.name, adapter.path) == ("a", "/adapters/a")
    assert arguments["lora_modules"] == [{"name": "a", "path": "/adapters/a"}]

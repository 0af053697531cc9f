"""What becomes of the settings where engines are simulated."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.engines.options import ENGINE_MODEL, SCHEDULER, WORKER, replica_options
from serve_app.settings.load import SettingsError, load_settings
from serve_app.settings.schema import Settings

LLM: dict[str, Any] = {"engine_kwargs": {"num_gpu_blocks_override": 100, "block_size": 16}}


def test_real_engines_get_the_settings_as_they_are() -> None:
    """Nothing is added where vLLM's own order of waiting is wanted."""
    settings = Settings.model_validate({"llm": LLM, "replicas": {"waiting_order": "arrival"}})
    assert replica_options(settings) is settings.llm


@pytest.mark.parametrize("engine", ["vllm", "simulated"])
def test_the_other_waiting_order_is_a_scheduler_of_ours(engine: str) -> None:
    """Of real engines and of simulated ones; a scheduler of the user's own stays where the order is vLLM's."""
    settings = Settings.model_validate({"engine": engine, "llm": LLM, "replicas": {"waiting_order": "shortest"}})
    arguments = replica_options(settings)["engine_kwargs"]
    assert arguments["scheduler_cls"] == SCHEDULER
    assert arguments["block_size"] == 16
    assert ("worker_cls" in arguments) == (engine == "simulated")
    own = {"engine_kwargs": {**LLM["engine_kwargs"], "scheduler_cls": "theirs.Own"}}
    settings = Settings.model_validate({"engine": engine, "llm": own, "replicas": {"waiting_order": "arrival"}})
    assert replica_options(settings)["engine_kwargs"]["scheduler_cls"] == "theirs.Own"


def test_simulated_engines_get_a_worker_and_its_constants() -> None:
    """Along with what the settings say."""
    settings = Settings.model_validate(
        {"engine": "simulated", "llm": {**LLM, "log_engine_metrics": True}, "engine_model": {"step_s": 0.5}}
    )
    options = replica_options(settings)
    assert options["log_engine_metrics"] is True
    arguments = options["engine_kwargs"]
    assert arguments["num_gpu_blocks_override"] == 100
    assert arguments["worker_cls"] == WORKER
    assert arguments["additional_config"][ENGINE_MODEL]["step_s"] == 0.5
    assert "worker_cls" not in settings.llm["engine_kwargs"]


def test_options_of_the_users_own_stay() -> None:
    """Also those that vLLM has for others."""
    llm = {"engine_kwargs": {**LLM["engine_kwargs"], "additional_config": {"theirs": 1}}}
    options = replica_options(Settings.model_validate({"engine": "simulated", "llm": llm}))
    assert options["engine_kwargs"]["additional_config"].keys() == {"theirs", ENGINE_MODEL}


def test_a_simulated_cache_must_have_a_size(tmp_path: Path) -> None:
    """The message names the setting."""
    path = tmp_path / "x.yaml"
    path.write_text("engine: simulated\nllm: {engine_kwargs: {block_size: 16}}\n")
    with pytest.raises(SettingsError, match=r"llm.engine_kwargs.num_gpu_blocks_override"):
        load_settings(path)


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    """And those that there are."""
    path = tmp_path / "x.yaml"
    path.write_text("engine: fake\nllm: {}\n")
    with pytest.raises(SettingsError, match=r"engine = 'fake'.*'vllm' or 'simulated'"):
        load_settings(path)
